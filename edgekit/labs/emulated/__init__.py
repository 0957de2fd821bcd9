"""Boards without boards: QEMU's user mode runs the runtime under a chosen processor, and a plugin counts what it executes."""

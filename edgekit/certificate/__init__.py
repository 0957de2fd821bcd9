"""The cross-ISA certificate: one bundle, evaluated on several kinds of processor."""

"""What a bundle and a report say of the packages behind them."""

import msgspec
import onnxruntime

from edgekit.environment import environment, tool_versions
from edgekit_runtime.plugins import OPENVINO, PLUGINS


def test_versions_are_of_what_is_installed():
    versions = tool_versions()
    assert versions["onnxruntime"] == onnxruntime.__version__
    for plugin in PLUGINS.values():
        assert (plugin.package in versions) == plugin.installed
    assert versions.items() <= environment().items()


def test_an_installed_plugin_is_among_them(monkeypatch):
    monkeypatch.setitem(PLUGINS, OPENVINO, msgspec.structs.replace(PLUGINS[OPENVINO], package="msgspec"))
    assert tool_versions()["msgspec"] == msgspec.__version__
    monkeypatch.setitem(PLUGINS, OPENVINO, msgspec.structs.replace(PLUGINS[OPENVINO], package="not-installed-anywhere"))
    assert "not-installed-anywhere" not in tool_versions()

"""A comparison's gates as JUnit XML, which build servers show as tests."""

from xml.etree import ElementTree as ET

from edgekit.comparison import Comparison

__all__ = ["junit_xml"]

# What a build server lists: a test's name, the gate behind it and the option that asks for it.
TESTS = {
    "accuracy": ("max_drop", "--max-drop"),
    "certified": ("certified", "--require-certified"),
    "latency": ("min_speedup", "--min-speedup"),
    "size": ("max_size_ratio", "--max-size-ratio"),
    "parity": ("min_sqnr_db", "--min-sqnr"),
}


def junit_xml(comparison: Comparison) -> str:
    """One test case a gate, with its figures; a gate that was not asked for is skipped, one that does not hold has failed."""
    gates = {gate.name: gate for gate in comparison.gates}
    failures = sum(not gate.holds for gate in gates.values())
    skipped = len(TESTS) - sum(gate in gates for gate, _ in TESTS.values())
    counts = {"tests": str(len(TESTS)), "failures": str(failures), "errors": "0", "skipped": str(skipped)}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": "edgekit compare", **counts})
    properties = ET.SubElement(suite, "properties")
    for name, text in (("a", comparison.a), ("b", comparison.b)):
        ET.SubElement(properties, "property", {"name": name, "value": _clean(text)})
    for test, (gate_name, option) in TESTS.items():
        case = ET.SubElement(suite, "testcase", {"classname": "edgekit.compare", "name": test, "time": "0"})
        gate = gates.get(gate_name)
        if gate is None:
            ET.SubElement(case, "skipped", {"message": f"not asked for; {option} does"})
            continue
        if not gate.holds:
            ET.SubElement(case, "failure", {"message": _clean(gate.told), "type": gate.name}).text = _clean(gate.told)
        ET.SubElement(case, "system-out").text = _clean(gate.told)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _clean(text: str) -> str:
    """Text without the characters that XML 1.0 has no place for."""
    return "".join(letter if letter in "\t\n\r" or letter.isprintable() else "?" for letter in text)

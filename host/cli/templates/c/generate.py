"""Writes bindings.h, bindings.c and component_type.c for a contract.

    cargo install wit-bindgen-cli --version 0.63.0 --no-default-features --features c
    python3 generate.py wit/prompts.wit

Only needed for a new contract. Two changes are made to the output of `wit-bindgen c`:

- The exports of an interface are compiled only if PACK_RESOLVER or PACK_PROCESSOR is defined.
- The component types are C source instead of object files, so that no step embeds them.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

SDK = pathlib.Path(__file__).parent / "sdk"
FEATURES = {"resolver": "PACK_RESOLVER", "post-processor": "PACK_PROCESSOR"}
WORLDS = {"resolver-pack": "PACK_RESOLVER", "post-pack": "PACK_PROCESSOR"}
EXPORT = re.compile(
    r'^__attribute__\(\([^\n]*__export_name__\("[^"\n]*lmstrix:prompts/([a-z-]+)@.*?^}\n', re.M | re.S
)
SYMBOL = "__component_type_object_force_link_bindings"


def generate(contract, world, folder):
    command = ["wit-bindgen", "c", "--world", world, "--rename-world", "bindings", "--out-dir", folder]
    subprocess.run([*command, contract], check=True, stdout=subprocess.DEVNULL)
    return pathlib.Path(folder)


def with_feature(match):
    feature = FEATURES.get(match[1])
    return f"#ifdef {feature}\n{match[0]}#endif\n" if feature else match[0]


def leb128(data, at):
    """Returns the unsigned number at `at`, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            return value, at


def component_type(data):
    """Returns the content of the section that has the component type."""
    at = len(b"\0asm") + 4
    while at < len(data):
        kind = data[at]
        size, start = leb128(data, at + 1)
        at = start + size
        if kind == 0:
            length, start = leb128(data, start)
            if data[start:].startswith(b"component-type"):
                return data[start + length : at]
    sys.exit("error: the object file has no component type")


def assembly(world, content):
    """Returns C source that adds the component type of a world to the module."""
    lines = [f'__asm__(".section \\".custom_section.component-type:{world}\\",\\"\\",@\\n"']
    for at in range(0, len(content), 20):
        row = ",".join(str(byte) for byte in content[at : at + 20])
        lines.append(f'        ".byte {row}\\n"')
    lines.append('        ".text\\n");')
    return "\n".join(lines)


def main():
    contract = sys.argv[1]
    types = ["// The component types of the worlds, written by generate.py. Do not edit."]
    with tempfile.TemporaryDirectory() as folder:
        for world, feature in WORLDS.items():
            generate(contract, world, folder)
            content = component_type((pathlib.Path(folder) / "bindings_component_type.o").read_bytes())
            types += [f"#ifdef {feature}", assembly(world, content), "#endif"]
        generate(contract, "pack", folder)
        header = (pathlib.Path(folder) / "bindings.h").read_text()
        source = (pathlib.Path(folder) / "bindings.c").read_text()
    types += ["", "// bindings.c refers to it.", f"void {SYMBOL}(void) {{}}", ""]
    (SDK / "bindings.h").write_text(header)
    (SDK / "bindings.c").write_text(EXPORT.sub(with_feature, source))
    (SDK / "component_type.c").write_text("\n".join(types))


main()

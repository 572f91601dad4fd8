"""Removes the debug information of a WebAssembly module, and keeps the names of its functions.

    python3 strip.py core.wasm
"""

import sys


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


def is_debug(data, start):
    """Returns whether the custom section at `start` has debug information."""
    _, start = leb128(data, start)
    return data[start:].startswith(b".debug_")


def strip(data):
    at = len(b"\0asm") + 4
    kept = bytearray(data[:at])
    while at < len(data):
        size, start = leb128(data, at + 1)
        end = start + size
        if data[at] != 0 or not is_debug(data, start):
            kept += data[at:end]
        at = end
    return kept


def main():
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    with open(sys.argv[1], "wb") as file:
        file.write(strip(data))


main()

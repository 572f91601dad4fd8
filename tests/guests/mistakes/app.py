"""A pack with a mistake in each prompt but the first."""

import random
import socket
import time

from wit_world import exports
from wit_world.exports.catalog import Contents, PromptInfo
from wit_world.exports.resolver import Input_Chat, Resolved
from wit_world.imports.types import Message, Role

NAMES = ["good", "typo", "throw", "key", "file", "socket", "sleep", "loop"]


class Catalog(exports.Catalog):
    def describe(self, files):
        prompts = [PromptInfo(name, "", [], []) for name in NAMES]
        return Contents("Mistakes", prompts, [], [])


class Resolver(exports.Resolver):
    def resolve(self, request):
        name = request.prompt
        print("resolving", name, time.time(), random.random())
        if name == "typo":
            goood()
        if name == "throw":
            raise ValueError("no such term")
        if name == "key":
            {}["missing"]
        if name == "file":
            open("/etc/passwd")
        if name == "socket":
            socket.create_connection(("127.0.0.1", 80))
        if name == "sleep":
            time.sleep(1)
        while name == "loop":
            pass
        message = Message(Role.USER, "Hello.", [], [])
        return Resolved(Input_Chat([message]), [], [], None, [], [])

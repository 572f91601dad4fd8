"""A pack with a mistake in each prompt but the first."""

import random
import socket
import time

from lmstrix_pack import Message, Pack, Resolved

pack = Pack("Mistakes")


@pack.prompt("good")
def good(request):
    print("resolving", time.time(), random.random())
    return "Hello."


@pack.prompt("typo")
def typo(request):
    return goood(request)  # noqa: F821


@pack.prompt("throw")
def throw(request):
    raise ValueError("no such term")


@pack.prompt("key")
def key(request):
    return request.params["missing"]


@pack.prompt("type")
def wrong_type(request):
    return Resolved([Message("user", 5)])


@pack.prompt("tag")
def tag(request):
    return Resolved(["Hello."], settings={"temprature": 0.5})


@pack.prompt("setting")
def setting(request):
    return Resolved(["Hello."], settings={"temperature": "hot"})


@pack.prompt("range")
def out_of_range(request):
    return Resolved(["Hello."], settings={"top_k": -1})


@pack.prompt("loop")
def loop(request):
    while True:
        pass


@pack.prompt("file")
def file(request):
    return open("/etc/passwd").read()


@pack.prompt("socket")
def connect(request):
    socket.create_connection(("127.0.0.1", 80))


@pack.prompt("sleep")
def sleep(request):
    time.sleep(1)
    return "Hello."


@pack.prompt("coroutine")
async def coroutine(request):
    return "Hello."


@pack.prompt("nothing")
def nothing(request):
    ["Hello.", request.prompt].sort()


@pack.processor("push_type")
class PushType:
    def push(self, chunk):
        return len(chunk)

# Speaks to the API server as the cluster's administrator, with nothing but Python's own library: cloud-init brings
# Python to every guest, and a request costs a fraction of what starting kubectl does under emulation.
import base64
import http.client
import json
import os
import re
import ssl
import struct
import sys
import time
from urllib.parse import urlencode

PODS = "/api/v1/namespaces/default/pods"
# How many seconds of this run a second of hardware's may take: the script's last argument, where it waits for long.
PATIENCE = float(sys.argv[-1]) if sys.argv[1:] and re.fullmatch(r"[0-9.]+", sys.argv[-1]) else 1.0


def within(seconds):
    """How long to wait for what takes up to `seconds` on hardware."""
    return seconds * PATIENCE


def administrator():
    """Address of the API server, and TLS settings that know its authority and hold kubeadm's client key.

    OpenSSL takes a key from a file alone: it lies in memory, for root, no longer than that takes.
    """
    with open("/etc/kubernetes/admin.conf") as file:
        text = file.read()

    def data(name):
        return base64.b64decode(re.search(name + r"-data: *(\S+)", text).group(1))

    tls = ssl.create_default_context(cadata=data("certificate-authority").decode())
    tls.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)  # as kubectl: key identifiers may be absent
    path = "/run/nodekiln-%d.pem" % os.getpid()
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(file, data("client-certificate") + b"\n" + data("client-key"))
        tls.load_cert_chain(path)
    finally:
        os.close(file)
        os.unlink(path)
    host, port = re.search(r"server: *https://(\S+):(\d+)", text).groups()
    return host, int(port), tls


HOST, PORT, TLS = administrator()


def secure(host=HOST, port=PORT, timeout=None):
    return http.client.HTTPSConnection(host, port, timeout=timeout or max(60, within(12)), context=TLS)


def call(path, method="GET", body=None, kind="application/json"):
    """Status and text of the API server's answer."""
    wire = secure()
    wire.request(method, path, body, {"Content-Type": kind} if body else {})
    said = wire.getresponse()
    return said.status, said.read().decode("utf-8", "replace")


class Refused(Exception):
    """The API server's answer to what it does not do."""

    def __init__(self, path, status, text):
        super().__init__("%s is answered with %d: %s" % (path, status, " ".join(text.split())))


def get(path):
    """The text at `path`."""
    status, text = call(path)
    if status != 200:
        raise Refused(path, status, text)
    return text


def answer(question):
    """Prints what `question` returns, or with what the API server refused, or what a pod lacks: answers too."""
    try:
        print(question())
    except Refused as refused:
        print(refused)
    except LookupError as absent:
        print("there is no", absent)


def wait(path, good, seconds):
    """Objects at `path` once they are `good`, or as they are when `seconds` have passed; events say when to look."""
    end = time.monotonic() + seconds
    while True:
        listed = json.loads(get(path))
        things = {thing["metadata"]["name"]: thing for thing in listed["items"]}
        left = int(end - time.monotonic())
        if left < 1 or good(list(things.values())):
            return list(things.values())
        version = listed["metadata"]["resourceVersion"]
        query = urlencode({"watch": 1, "resourceVersion": version, "timeoutSeconds": left})
        wire = secure(timeout=left + 10)
        wire.request("GET", path + ("&" if "?" in path else "?") + query)
        for line in wire.getresponse():
            event = json.loads(line)
            if event["type"] == "ERROR":
                break  # such as an expired version: list again
            thing = event["object"]
            if event["type"] == "DELETED":
                things.pop(thing["metadata"]["name"], None)
            else:
                things[thing["metadata"]["name"]] = thing
            if good(list(things.values())):
                return list(things.values())


def ready(thing):
    conditions = thing.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def upgrade(path):
    """A web socket at `path`, with the protocol in which a frame's first byte is its channel."""
    wire = secure()
    key = base64.b64encode(os.urandom(16)).decode()
    wire.request("GET", path, headers={
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": "v4.channel.k8s.io",
    })
    said = wire.getresponse()
    if said.status != 101:
        raise Refused(path, said.status, said.read().decode("utf-8", "replace"))
    return wire, said.fp


def frames(stream):
    """Channel and content of each message that comes (RFC 6455, 5.2), until the other end closes."""
    while True:
        head = stream.read(2)
        if len(head) < 2 or head[0] & 15 == 8:
            return
        size = head[1] & 127
        if size > 125:
            form, width = (">H", 2) if size == 126 else (">Q", 8)
            size, = struct.unpack(form, stream.read(width))
        body = stream.read(size)
        if head[0] & 15 < 8 and body:
            yield body[0], body[1:]


def send(wire, channel, data):
    """One message of at most 124 bytes; a client masks what it sends (RFC 6455, 5.3)."""
    body, mask = bytes([channel]) + data, os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
    wire.sock.sendall(bytes([0x82, 0x80 | len(body)]) + mask + masked)


def execute(pod, command):
    """What `command` prints in `pod`, and how it failed where it did."""
    query = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true")]
    _, stream = upgrade("%s/%s/exec?%s" % (PODS, pod, urlencode(query)))
    said = b""
    for channel, data in frames(stream):
        if channel in (1, 2):
            said += data
        elif channel == 3 and data:
            status = json.loads(data)
            said += b"" if status.get("status") == "Success" else b"\n" + status.get("message", "").encode()
    return said.decode("utf-8", "replace")


def forward(pod, port, request, end):
    """The answer to `request` at `port` of `pod`, up to `end`, through a forwarded port. Each channel's first message is
    the port's number; channel 1 tells of errors."""
    wire, stream = upgrade("%s/%s/portforward?ports=%d" % (PODS, pod, port))
    send(wire, 0, request)
    said, seen = b"", set()
    for channel, data in frames(stream):
        if channel in seen:
            said += data
        seen.add(channel)
        if end in said:
            break
    return said.decode("utf-8", "replace")


def plain(host, port, path):
    """What a server answers without TLS, or why it does not."""
    try:
        wire = http.client.HTTPConnection(host, port, timeout=max(30, within(6)))
        wire.request("GET", path)
        return wire.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return str(error) or repr(error)



# Makes the HTTP request that standard input describes in the words of curl's configuration, and prints the answer as
# curl does when told so: headers and body, then the status and the size of the headers on the error output.
# For guests that have no curl; Python 3.6 and later.
import base64, http.client, re, signal, ssl, sys
from urllib.parse import quote, unquote, urljoin, urlsplit

SIGNS = {"n": "\n", "r": "\r", "t": "\t", "v": "\v"}
SAFE = "%/:=&~+!$,;'@()*[]"
MOST_REDIRECTS = 10


def configuration(text):
    """Flags, values by name, and headers."""
    flags, values, headers = set(), {}, []
    for line in text.split("\n"):
        name, equals, quoted = line.partition(" = ")
        if not equals:
            flags.add(line)
            continue
        value = re.sub(r"\\(.)", lambda found: SIGNS.get(found.group(1), found.group(1)), quoted[1:-1])
        if name == "header":
            headers.append(value)
        else:
            values[name] = value
    return flags, values, headers


def trust(flags, values):
    """The TLS settings."""
    context = ssl.create_default_context(cafile=values.get("cacert"))
    if "insecure" in flags:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "cert" in values:
        context.load_cert_chain(values["cert"], values.get("key"))
    return context


def basic(name, password):
    return "Basic " + base64.b64encode((name + ":" + password).encode()).decode()


def connection(url, flags, values):
    """Where the request goes, and what it asks for there."""
    path = quote(url.path or "/", safe=SAFE)
    if url.query:
        path += "?" + quote(url.query, safe=SAFE + "?")
    secure = url.scheme == "https"
    if not secure and url.scheme != "http":
        sys.exit("without curl nothing but http and https can be asked")
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    more = {"context": trust(flags, values)} if secure else {}
    if "proxy" not in values:
        return kind(url.hostname, url.port, **more), path, {}
    proxy = values["proxy"]
    proxy = urlsplit(proxy if "://" in proxy else "http://" + proxy)
    if proxy.scheme != "http":
        sys.exit("without curl no proxy but one of http can be used")
    told = {}
    if proxy.username is not None:
        told["Proxy-Authorization"] = basic(unquote(proxy.username), unquote(proxy.password or ""))
    made = kind(proxy.hostname, proxy.port or 1080, **more)
    if secure:
        made.set_tunnel(url.hostname, url.port, told)
        return made, path, {}
    return made, "http://" + url.netloc.rpartition("@")[2] + path, told


def send(url, method, body, flags, values, headers, credentials):
    made, target, told = connection(url, flags, values)
    given = [header.partition(":")[::2] for header in headers]
    names = {name.strip().lower() for name, _ in given}
    made.putrequest(method, target, skip_host="host" in names, skip_accept_encoding=True)
    if credentials and "authorization" not in names:
        told["Authorization"] = basic(*credentials)
    if body is not None:
        told["Content-Length"] = str(len(body))
    usual = {"User-Agent": "nodekiln-goss", "Accept": "*/*"}
    for name, value in list(usual.items()) + list(told.items()):
        if name.lower() not in names:
            made.putheader(name, value)
    for name, value in given:
        if value.strip():  # one without a value is left out, as with curl
            made.putheader(name.strip(), value.strip().encode())
    made.endheaders(body)
    return made.getresponse()


def answer(flags, values, headers):
    url = values["url"]
    url = urlsplit(url if "://" in url else "http://" + url)
    first = url.hostname, url.port, url.scheme
    body = values["data-raw"].encode() if "data-raw" in values else None
    method = "HEAD" if "head" in flags else values.get("request", "GET")
    credentials = values["user"].split(":", 1) if "user" in values else None
    if credentials is None and url.username is not None:
        credentials = unquote(url.username), unquote(url.password or "")
    for _ in range(1 + MOST_REDIRECTS):
        # Nobody is told a password but the one it is meant for.
        known = credentials if (url.hostname, url.port, url.scheme) == first else None
        response = send(url, method, body, flags, values, headers, known)
        place = response.getheader("Location")
        if "location" not in flags or place is None or response.status not in (301, 302, 303, 307, 308):
            return response
        if response.status < 304:
            body = None
        url = urlsplit(urljoin(url.geturl(), place))
    sys.exit("more than %d redirects" % MOST_REDIRECTS)


def late(*_):
    raise TimeoutError("the answer took longer than the request gives it")


def main():
    flags, values, headers = configuration(sys.stdin.buffer.read().decode())
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, float(values["max-time"]))
    try:
        response = answer(flags, values, headers)
        head = "HTTP/1.%d %d %s\r\n" % (response.version % 10, response.status, response.reason)
        head += "".join("%s: %s\r\n" % header for header in response.getheaders()) + "\r\n"
        head = head.encode("latin-1", "replace")
        body = response.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.exit("%s: %s" % (type(error).__name__, error))
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.buffer.write(head + body)
    sys.stdout.buffer.flush()
    sys.stderr.write("\nnodekiln-goss %d %d\n" % (response.status, len(head)))


main()

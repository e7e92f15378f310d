
# Answers several questions about the cluster, a few at a time: most of the time each waits for a pod, or for a program in
# one. A question is Python that defines `question`; it is run with these names and its own. A line of JSON tells of each.
from concurrent.futures import ThreadPoolExecutor

BEGUN = time.monotonic()


def asked(name):
    """What comes of the question `name`: what it said, or why it could not be asked, and when, in seconds."""
    began = time.monotonic() - BEGUN
    said, error = "", ""
    try:
        scope = dict(globals())
        exec(compile(QUESTIONS[name], name, "exec"), scope)
        said = scope["question"]()
    except Refused as refused:
        said = str(refused)
    except LookupError as absent:
        said = "there is no %s" % absent
    except Exception as failure:
        error = "%s: %s" % (type(failure).__name__, failure)
    ended = time.monotonic() - BEGUN
    return {"name": name, "said": said, "error": error, "began": began, "ended": ended}


with ThreadPoolExecutor(AT_ONCE) as threads:
    for one in threads.map(asked, QUESTIONS):
        print(json.dumps(one), flush=True)

"""What schemathesis is told of this API that its description has no words for; runs in schemathesis' own Python.

Every other request has the same id in path and body, and names a file that is there: at random, hardly any would.
"""

import itertools
import json
import os
import re

import schemathesis

# What a body may name, and what of it is there.
PRESENT = {"path_on_host": "/disk.img", "kernel_image_path": "/zeros", "initrd_path": "/zeros", "host_dev_name": "tap0",
           "uds_path": "/tmp/vsock.sock"}
# What a running guest has.
THERE = {"drive_id": "disk", "iface_id": "net"}
_calls = itertools.count()


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """Mends every other request."""
    if next(_calls) % 2 and isinstance(case.body, dict):
        for name, value in (case.path_parameters or {}).items():
            if case.method == "PATCH":
                value = case.path_parameters[name] = THERE.get(name, value)
            if isinstance(case.body.get(name), str) and re.fullmatch("[A-Za-z0-9_]{1,64}", str(value)):
                case.body[name] = value
        for name, value in PRESENT.items():
            if isinstance(case.body.get(name), str):
                case.body[name] = value


@schemathesis.hook
def after_call(_context, case, response):
    """Writes down which operation got which answer."""
    line = json.dumps([case.operation.definition.raw["operationId"], response.status_code])
    with open(os.environ["API_CHECK_ANSWERS"], "a", encoding="utf-8") as file:
        file.write(line + "\n")

"""The command line as the benches call it: as a user would, one process per command."""

import json
import subprocess
import sys


def axolemma_json(*arguments: object) -> dict:
    """Run one command and return what it prints as JSON."""
    command = [sys.executable, "-m", "axolemma", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

"""Submits `docker.ps` with a client that a stock generator made of the description."""

import sys

from made import AuthenticatedClient
from made.api.commands import submit_command
from made.models import Accepted, DockerPsArgs, DockerPsCommand, TargetBody

url, token = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token)
args = DockerPsArgs(all_=True, last=5)
body = DockerPsCommand(verb="docker.ps", args=args, target=TargetBody(agents=["dock"]))
answer = submit_command.sync_detailed(client=client, body=body)
assert answer.status_code == 202, answer
accepted = answer.parsed
assert isinstance(accepted, Accepted) and accepted.targets[0].agent_name == "dock", accepted
print(accepted.id)

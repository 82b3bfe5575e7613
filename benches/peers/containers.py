#!/usr/bin/python3
"""containers.py LIST: whether the containers run, with the Python library for Docker, as people write it."""
import sys

import docker

client = docker.from_env()
containers = {container.name: container for container in client.containers.list(all=True)}
code = 0
for name in open(sys.argv[1]).read().split():
    container = containers.get(name)
    if container is None or container.status != "running":
        print(f"{name} does not run")
        code = 2
        continue
    health = container.attrs["State"].get("Health")
    if health and health["Status"] != "healthy":
        print(f"{name} is {health['Status']}")
        code = 2
sys.exit(code)

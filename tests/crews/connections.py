"""Crews that ask a server five times over one connection, and say which answers were not theirs.

A crew is named by when it opens its connection and by the client: `at_build_httpx`, `lazily_psycopg`; `at_import_requests` is a module.
"""

import functools
import http.client
import os
import uuid

CLIENTS = ("http_client", "requests", "httpx", "psycopg")
QUESTIONS = 5
_kept = {}


def opened(client):
    """A function that asks over a connection which is open by now, and returns the answer."""
    return globals()[f"_{client}"]()


def _http_client():
    address = os.environ["ECHO"].removeprefix("http://")
    connection = http.client.HTTPConnection(address)
    connection.connect()

    def ask(question):
        connection.request("GET", f"/{question}")
        return connection.getresponse().read().decode()

    return ask


def _requests():
    import requests

    return _warm(requests.Session())


def _httpx():
    import httpx

    return _warm(httpx.Client())


def _warm(session):
    def ask(question):
        return session.get(f"{os.environ['ECHO']}/{question}").text

    ask("first")
    return ask


def _psycopg():
    import psycopg

    connection = psycopg.connect(os.environ["POSTGRES"], autocommit=True)
    return lambda question: connection.execute("select %s::text from pg_sleep(0.002)", [question]).fetchone()[0]


class Asker:
    """A crew; `connection` gives the function that asks."""

    def __init__(self, connection):
        self._connection = connection

    def kickoff(self, inputs):
        ask = self._connection()
        wrong = []
        for number in range(QUESTIONS):
            question = f"{inputs['MARK']}-{number}-{uuid.uuid4()}"
            answer = ask(question)
            if answer != question:
                wrong.append([question, answer])
        return {"wrong": wrong, "asked": QUESTIONS, "pid": os.getpid(), "parent": os.getppid()}


def _at_build(client):
    _kept[client] = opened(client)
    return Asker(lambda: _kept[client])


def _lazily(client):
    def connection():
        if client not in _kept:
            _kept[client] = opened(client)
        return _kept[client]

    return Asker(connection)


for _client in CLIENTS:
    globals()[f"at_build_{_client}"] = functools.partial(_at_build, _client)
    globals()[f"lazily_{_client}"] = functools.partial(_lazily, _client)

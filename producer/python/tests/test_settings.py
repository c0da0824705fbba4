"""Where the broker is."""

from __future__ import annotations

from pathlib import Path

import pytest
from crewfleet import SettingsError
from crewfleet.settings import Settings, load


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "NAMESPACE", "CLIENT_NAME"):
        monkeypatch.delenv(f"CREWFLEET__BROKER__{name}", raising=False)


def test_the_order_is_file_environment_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load() == Settings()
    Path("crewfleet.toml").write_text('[broker]\nurl = ["amqp://a", "amqp://b"]\nnamespace = "file"\nmax_reply_bytes = 1\n[crews.x]\n')
    assert (load().urls, load().namespace) == (["amqp://a", "amqp://b"], "file")
    monkeypatch.setenv("CREWFLEET__BROKER__NAMESPACE", "environment")
    monkeypatch.setenv("CREWFLEET__BROKER__HEARTBEAT_S", "7")
    assert (load().namespace, load().heartbeat_s, load().urls) == ("environment", 7, ["amqp://a", "amqp://b"])
    given = load("amqp://c", namespace="argument")
    assert (given.urls, given.namespace) == (["amqp://c"], "argument")


def test_a_url_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("amqp://secret\n")
    Path("other.toml").write_text(f'[broker]\nurl_file = "{tmp_path}/url"\n')
    assert load(config="other.toml").urls == ["amqp://secret"]
    assert "secret" not in repr(load(config="other.toml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[broker]\nurll = 'x'\n", r"crewfleet.toml: \[broker\] has no key 'urll': it has .*url"),
        ("[broker]\nheartbeat_s = 'x'\n", "crewfleet.toml: broker.heartbeat_s = 'x' is no whole number"),
        ("[broker]\nurl = 1\n", "crewfleet.toml: broker.url is no text"),
        ("broker = 1\n", "crewfleet.toml: broker is no section"),
        ("[broker\n", "crewfleet.toml: "),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, said: str) -> None:
    Path("crewfleet.toml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        load()
    with pytest.raises(SettingsError, match=r"nowhere\.toml cannot be read"):
        load(config="nowhere.toml")


def test_a_url_of_the_environment_outranks_the_file_s_url_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("crewfleet.toml").write_text('[broker]\nurl_file = "url"\n')
    monkeypatch.setenv("CREWFLEET__BROKER__URL", "amqp://environment")
    assert load().urls == ["amqp://environment"]


def test_paths_of_a_file_start_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/url").write_text("amqp://there")
    (tmp_path / "conf/other.toml").write_text('[broker]\nurl_file = "url"\nca_file = "/etc/ca.pem"\n')
    settings = load(config=tmp_path / "conf/other.toml")
    assert (settings.urls, settings.ca_file) == (["amqp://there"], "/etc/ca.pem")


@pytest.mark.parametrize(
    "url", ["localhost:5672", "http://user:hunter2@host", "amqp://", "amqp://user:hunter2@host:port/", "amqp://u:p/hunter2@host/", "amqp://ok,amqps:///x"]
)
def test_what_is_no_url_of_amqp_is_refused_unseen(url: str) -> None:
    with pytest.raises(SettingsError, match=r"broker\.url: URL \d is none of AMQP's") as raised:
        load(url)
    assert "hunter2" not in str(raised.value)


def test_urls_are_told_apart_as_in_the_programs() -> None:
    urls = ["amqp://user:pass,word@[::1]:5672/%2f", "AMQPS://host:5671?heartbeat=5", "amqp://last/%2f?name=app@prod:web"]
    assert load(f"{urls[0]}, {urls[2]}").urls == [urls[0], urls[2]]
    assert load(f"{urls[0]} {urls[2]}").urls == [urls[0], urls[2]]
    assert load(urls[1]).urls == [urls[1]]

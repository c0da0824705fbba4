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

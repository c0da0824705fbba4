"""Makes the password of RabbitMQ's user and the secret of webhooks, once, and writes them where they are read."""

import base64
import secrets
from pathlib import Path

USER = Path("/run/broker-user/user.conf")
URL = Path("/run/secrets/crewfleet/broker-url")
WEBHOOKS = Path("/run/secrets/crewfleet/webhook-secret")


def write(path: Path, text: str) -> None:
    """Readable for the containers that have the volume, whatever user they run as; whole, or not there."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o444)
    new.rename(path)


if not WEBHOOKS.exists():
    write(WEBHOOKS, f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
# RabbitMQ makes the user at its first start only, so the password stays what it is. The URL comes last: with it, all is there.
if not URL.exists():
    password = secrets.token_hex(32)
    write(USER, f"default_user = crewfleet\ndefault_pass = {password}\n")
    write(URL, f"amqp://crewfleet:{password}@rabbitmq:5672/%2f\n")

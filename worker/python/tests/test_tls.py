"""TLS contexts are shared only as long as they are what httpx would make: whose word is changed gets another."""

import os
import ssl
import sys
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from crewfleet_host import tls

try:
    import certifi
    import httpx
except ImportError:
    httpx = None
else:
    # An httpx that has it no more fails here, since nothing would be shared.
    from httpx._transports import default


@unittest.skipIf(httpx is None, "this interpreter has no httpx")
class SharedContexts(unittest.TestCase):
    def setUp(self) -> None:
        create = default.create_ssl_context
        self.addCleanup(setattr, default, "create_ssl_context", create)
        tls.share_contexts()

    def trusted(self) -> list:
        return default.create_ssl_context().get_ca_certs()

    def test_one_for_all_who_say_nothing(self) -> None:
        self.assertIs(default.create_ssl_context(), default.create_ssl_context())

    def test_a_bundle_of_the_users_own_is_believed_and_read_again_when_it_is_renewed(self) -> None:
        all_of_them = Path(certifi.where()).read_text().split("\n\n")
        with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as folder:
            bundle = Path(folder) / "ca.pem"
            bundle.write_text(all_of_them[0])
            before = len(self.trusted())
            with patch.dict(os.environ, {"SSL_CERT_FILE": str(bundle)}):
                self.assertEqual(len(self.trusted()), 1)
                bundle.write_text("\n\n".join(all_of_them[:2]))
                self.assertEqual(len(self.trusted()), 2)
            self.assertEqual(len(self.trusted()), before)

    def test_a_library_that_replaces_the_context_has_its_way(self) -> None:
        shared = default.create_ssl_context()
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with patch("ssl.create_default_context", lambda **_: own):
            self.assertIs(default.create_ssl_context(), own)
        self.assertIs(default.create_ssl_context(), shared)

    def test_certificates_that_the_crew_names_are_its_own(self) -> None:
        mine = ssl.create_default_context()
        self.assertIs(default.create_ssl_context(verify=mine), mine)


if __name__ == "__main__":
    unittest.main()

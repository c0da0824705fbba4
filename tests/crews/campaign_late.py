"""The campaign's crew that cannot be built while the file that CAMPAIGN_AWAY names is there."""

import os

from campaign import CampaignCrew

if os.path.exists(os.environ["CAMPAIGN_AWAY"]):
    raise RuntimeError("what this crew needs at its import is away, as ordered")


class LateCrew(CampaignCrew):
    """Does what its inputs order, once it is there."""

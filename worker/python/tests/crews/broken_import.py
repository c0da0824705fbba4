"""A target that cannot be imported."""

import no_such_module_of_this_crew

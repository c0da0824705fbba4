"""A project as `crewai create` lays one out, with every shape that a target may have."""

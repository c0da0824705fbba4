"""From the name of a target to a factory of crews: one grammar.

    target                          what it names
    ------------------------------  ------------------------------------------------------------------------------------
    package.module:Name             a @CrewBase class, or any class with a method crew(); a Flow class; a class with a
                                    kickoff() of its own
                                    a function, async function or functools.partial that returns one of these, a Crew or an
                                    Agent: a factory
                                    a Crew (each kickoff gets a copy), an Agent, a LiteAgent
    package.module:outer.Name       the same, an attribute of something in the module
    package.module                  the one of these that the module defines
    path/to/file.py:Name            the same, the module by its file
    path/to/file.py
    crew.jsonc, crew.json           a crew defined by a file
    flow.yaml, flow.yml, flow.json  a flow defined by a file
    ., path/to/project              what [tool.crewai] of the folder's pyproject.toml says: its definition, else the crew or
                                    flow that the project's own script run_crew or kickoff runs, else the only one there is

Paths are relative to the crew's path, then to the folders above an entry called src, then to the working directory.

A factory, and a class with an `__init__` of its own, is called with the kickoff's inputs of the same names (parameters.py). An
agent takes the input `messages` (agents.py). What runs a crew (`run` in a project's main.py) is refused without calling it
(entry_points.py); while a target is imported and built nothing can be kicked off (../guard.py).

A factory is called once by a check of the target, once or twice at the start of its host (once in a fork that is thrown away, once
in the host if the first left nothing behind), and once by each kickoff. A child whose host has built nothing (isolation = "spawn")
calls a factory without parameters twice at its first kickoff, to see whether it gives the same crew again. One that needs inputs is
called by kickoffs alone.

    find.py           a name, by its form: load()
    folder.py         a project's folder
    definitions.py    crew.jsonc, flow.yaml
    objects.py        what a name in a module stands for
    parameters.py     a factory's parameters and the kickoff's inputs
    agents.py         an agent in the form of a crew
    entry_points.py   functions that run a crew
    nearest.py        the right form, for each refusal
    source.py         modules as text: the crews that they define
    crewai_types.py   CrewAI's own classes
"""

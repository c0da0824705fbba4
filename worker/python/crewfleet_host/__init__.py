"""The crew host of a crewfleet worker: imports a crew once, forks a child for each kickoff.

Standard library only, since it runs inside the interpreter of the user's crew.

    fork_server.py    imports crewai, forks one crew host a crew (and probes that only check a target)
    host.py      imports the target, forks the children
    spawner.py   what fork server and host share: fork with passed fds, watch, reap, kill orphans
    probe.py     runs a function in a throw-away fork
    spawned.py   a child in a fresh interpreter, where a fork is not safe
    child.py     serves kickoffs, one at a time
      kickoff.py   one kickoff: directory, inputs, events, cancel, outcome
      inputs.py    which inputs are missing, or can be given to no crew; input_files.py  files among them
      callbacks.py what @before_kickoff and @after_kickoff lose
      human_input.py  who asks a person
      events.py    CrewAI's events, slim; event_bus.py  the bus of older CrewAIs
      webhooks.py  tasks and steps, whole, where a request asks for them
      names.py     names of tasks and agents without prompts and inputs
      usage.py     the tokens that events and models report
      cancel.py    the cooperative stop
      result.py    what the crew returned, as JSON
      errors.py    what the crew raised, as JSON
      transient.py which failures another attempt may cure; chain.py  the exceptions behind an exception
      workdir.py   the kickoff's own directory and environment; files.py  what it wrote there
      ending.py    threads and exit handlers after the answer

  Where kickoffs stand:
    project.py   the folder that people start the crew in at home
    workplace.py that folder for each kickoff, unchanged: by an overlay (mounts.py) or by copies and links (links.py)
    environment.py  the environment variables of a crew, and what we set

  What forks may share:
    sharing.py   the table, and the look at what an import or a build left
    isolation.py fork or spawn, with the reasons in words
    descriptors.py, mappings.py, threads.py   what Linux and Python tell of open descriptors, shared memory and running threads
    renewal.py   what each fork gets for itself; storage.py  CrewAI's storage, opened by the kickoff that uses it

  Targets:
    targets/     "pkg.crew:MyCrew", a file or a folder to a target; the grammar of targets
    target.py    a target: makes a crew for each kickoff
    inspection.py  imports and builds a target, to learn what the worker must know
    guard.py     nothing is kicked off, no model is called, while that is done; providers.py  by libraries other than CrewAI, too
    after_import.py  what is done once a module has been imported
    settings.py  the settings of one crew, applied to a process

  CrewAI made fit for many processes:
    features.py  what this CrewAI lacks, and which versions are refused
    crewai_setup.py, locks.py    no panels, no questions, file locks by kickoff; tracing.py  CrewAI's own traces
    context_defaults.py          what CrewAI keeps by context, for all threads; optional.py  modules of CrewAI's that may be missing
    tls.py, prewarm.py           what is done once, for all forks

  Beneath all:
    frames.py    the wire; jsonable.py  any object to valid JSON
    process.py, signals.py       what Linux knows about processes and signals
"""

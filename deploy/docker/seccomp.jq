# Makes a seccomp profile of Docker's default one, for workers whose kickoffs see their project through an overlay. It adds what an
# overlay needs: one kind of namespaces (user and mount together: CLONE_NEWUSER | CLONE_NEWNS), mount and umount2. Crew code may
# call these, too; a network namespace, say, it may not make.
#   jq --from-file deploy/docker/seccomp.jq default.json >crewfleet.json     # default.json: github.com/moby/profiles, seccomp/
#   docker run --security-opt seccomp=crewfleet.json …
.syscalls += [
  {names: ["unshare"], action: "SCMP_ACT_ALLOW", args: [{index: 0, value: 268566528, op: "SCMP_CMP_EQ"}]},
  {names: ["mount", "umount2"], action: "SCMP_ACT_ALLOW"}
]

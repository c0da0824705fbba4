#!/usr/bin/env bash
# rustdoc, as cargo calls it to run the examples of a library's documentation. Before them it looks at the links of the
# documentation, with the compiled libraries that cargo names for the examples.
set -euo pipefail

rustdoc=$(rustc --print sysroot)/bin/rustdoc
if [[ " $* " == *" --test "* ]]; then
    pages=$(mktemp -d)
    trap 'rm -rf "$pages"' EXIT
    links=() skips=
    for argument in "$@"; do
        case $skips$argument in
        yes*) skips= ;;
        --test) ;;
        --test-run-directory | --test-args | --test-runtool) skips=yes ;;
        *) links+=("$argument") ;;
        esac
    done
    # A map of a module may link to what is private in it: it is for readers of the source.
    "$rustdoc" "${links[@]}" -D warnings -A rustdoc::private_intra_doc_links --out-dir "$pages"
fi
"$rustdoc" "$@"

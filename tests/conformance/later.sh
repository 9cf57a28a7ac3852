#!/usr/bin/env bash
# later.sh ARGS: the engine, with a pause before it goes on from a savepoint, so that processing time has gone on.
case " $* " in *" --restore-from "*) sleep 6 ;; esac
exec "${SLUICE_ENGINE:?}" "$@"

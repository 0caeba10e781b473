#!/usr/bin/env bash
# Runs a command until it is done, and writes into a file how it ended: what tpu/requeue.sh waits for.
#
#   tpu/until_done.sh STATUS TIMES COMMAND...
#
# Exit code 0 of the command: `done`. 2 (bad input: it would be the same again): `failed`. Anything else, such as a
# lost host: the command is run again, TIMES times at most, then `failed`. SIGTERM is handed on, waited for, and the
# end of it: what the file says stays.
#
#   MELAMA_PAUSE   seconds before it is run again (default: 30, so that all hosts have noticed a lost one)
set -u
status="$1" times="$2"
shift 2
stopped="" child=""
trap 'stopped=yes; [[ -z $child ]] || kill -TERM "$child"' TERM

for ((time = 0; time <= times; time++)); do
  "$@" &
  child=$!
  if [[ -n $stopped ]]; then kill -TERM "$child"; fi # the signal came before the child had a number
  wait "$child"
  code=$?
  while kill -0 "$child" 2>/dev/null; do # a signal ended the waiting, not the command
    wait "$child"
    code=$?
  done
  child=""
  case "$code" in
    0)
      echo "done" >"$status"
      exit 0
      ;;
    2) break ;;
  esac
  echo "$0: exit code $code, run $((time + 1)) of $((times + 1))" >&2
  if [[ -z $stopped ]]; then sleep "${MELAMA_PAUSE:-30}"; fi
  if [[ -n $stopped ]]; then exit "$code"; fi
done
echo failed >"$status"
exit "$code"

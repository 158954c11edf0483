#!/usr/bin/env bash
# Run a command on a slice of TPUs until it is done, whatever happens to the slice; then delete the slice.
#
#   launch/babysit.sh [SETTINGS] -- COMMAND...
#   launch/babysit.sh [SETTINGS] --each -- COMMAND...    with each line of standard input as last argument
#
# Settings are those of pod.sh, and:
#   --keep           leave the slice when the command is done (not when babysit.sh is stopped or gives up)
#   --failures N     run a command that failed again up to N times (FAILURES, 3)
#   --preemptions N  recreate the slice up to N times (PREEMPTIONS, 100)
#   --creations N    ask up to N times in a row for a slice that does not come (CREATIONS, 20)
#   --each           one command a line; writes "next" to standard output before it reads a line, and
#                    "done CODE LINE" after each; goes on after a command that failed
#
# The command follows poison-scaling: 0 done, 2 bad input (not tried again), 75 interrupted (goes on when
# started again), anything else a failure. babysit.sh exits with 0 done, 1 failed or a slice is left over,
# 2 bad input, 75 stopped or out of attempts: the same command goes on from there.
# A slice of this name that exists already, left by a babysit.sh that was killed, is taken over.

# shellcheck source=launch/slice.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/slice.sh"

FAILURES=${FAILURES:-3} PREEMPTIONS=${PREEMPTIONS:-100} CREATIONS=${CREATIONS:-20}
BACKOFF_SECONDS=${BACKOFF_SECONDS:-30} BACKOFF_MOST=${BACKOFF_MOST:-600}
SETUPS=${SETUPS:-3}                   # slices in a row that can be made but not be set up
STALE_SECONDS=${STALE_SECONDS:-900}   # without a sign of life of a worker: the slice counts as lost
LINGER_SECONDS=${LINGER_SECONDS:-120} # for the other workers, after the first one failed
LOCK_SECONDS=${LOCK_SECONDS:-0}       # to wait for another babysit.sh of this slice to end
LOST=200                              # an exit code of our own: the slice was taken away

# ----------------------------------------------------------------------------------------- cleaning up

ours=no      # whether there may be a slice that must be deleted
finished=no  # whether all commands have ended by themselves
locked=""

# shellcheck disable=SC2329 # called by traps, as the next one is
# However this script ends: nothing is left that costs money, or the user is told.
clean_up() {
  local code=$?
  trap '' INT TERM HUP
  if [[ $ours == yes && ($KEEP == no || $finished == no) ]]; then
    slice_delete || code=1
  elif [[ $ours == yes ]]; then
    say "$TPU_NAME is kept and costs money until it is deleted: $(delete_command)"
  fi
  [[ -z $locked ]] || rm -rf -- "$locked"
  exit "$code"
}

# shellcheck disable=SC2329
interrupted() {
  trap '' INT TERM HUP
  say "stopped by SIG$1; please wait while the slice is deleted."
  exit 75
}

# Without the one that hands out the lines, the slice works for nobody; and whoever starts anew must not
# find a run under way.
check_parent() {
  [[ $EACH == no || $(ps -o ppid= -p "$$" | tr -d ' ') == "$PPID" ]] || give_up "whoever started this is gone."
}

# One babysit.sh a slice on this machine.
lock() {
  local folder pid until=$((SECONDS + LOCK_SECONDS))
  folder=${XDG_STATE_HOME:-$HOME/.local/state}/poison_scaling
  mkdir -p "$folder"
  folder=$folder/$(printf '%s' "$PROJECT $ZONE $TPU_NAME" | tr -c 'A-Za-z0-9_.-' '-').lock
  while ! mkdir "$folder" 2>/dev/null; do
    pid=$(cat "$folder/pid" 2>/dev/null || echo 0)
    if [[ $(ps -p "$pid" -o args= 2>/dev/null) != *babysit.sh* ]]; then
      say "a babysit.sh that watched $TPU_NAME was killed; taking over."
      break
    fi
    ((SECONDS < until)) || die "another babysit.sh (process $pid) watches $TPU_NAME; give another --name," \
      "or stop that one."
    pause "$POLL_SECONDS"
  done
  mkdir -p "$folder"
  echo "$$" >"$folder/pid"
  locked=$folder
}

# --------------------------------------------------------------------------------------- the slice is up

pushed=no
waits=0

# Longer after every attempt that came to nothing.
back_off() {
  local seconds=$((BACKOFF_SECONDS << (waits < 10 ? waits : 10)))
  ((seconds <= BACKOFF_MOST)) || seconds=$BACKOFF_MOST
  waits=$((waits + 1))
  ((seconds == 0)) || say "waiting $seconds s."
  pause "$seconds"
}

give_up() {
  say "giving up: $*"
  exit 75
}

# Another person's slice of the same name is neither used nor deleted.
check_owner() {
  local owner
  owner=$(slice_owner)
  [[ -z $owner || $owner == "$OWNER" ]] || die "$TPU_NAME belongs to $owner; give another --name, or OWNER=$owner" \
    "if that is you."
}

# Until the slice is ACTIVE and has the code. Exits when it does not come.
ensure_slice() {
  local state before="" creations=0 setups=0 answer
  while true; do
    check_parent
    state=$(slice_state)
    [[ $state == "$before" ]] || say "$TPU_NAME: $state"
    before=$state
    [[ $ours == yes || $state =~ ^(NONE|UNKNOWN)$ ]] || check_owner
    case $state in
      ACTIVE)
        ours=yes
        if [[ $pushed == yes ]]; then return; fi
        if push_code; then
          pushed=yes
          return
        fi
        say "the code could not be sent to $TPU_NAME."
        # A worker that cannot be reached: another slice may do better.
        ((++setups < SETUPS)) || give_up "$TPU_NAME could not be set up $setups times; what ssh said is above."
        slice_delete || exit 1
        back_off
        ;;
      NONE)
        pushed=no
        ((creations++ < CREATIONS)) || give_up "$TPU_NAME did not come up after $CREATIONS requests."
        ours=yes # whatever the answer will be
        if answer=$(slice_create 2>&1); then
          continue
        fi
        printf '%s\n' "$answer" >&2
        if [[ $answer =~ (PERMISSION_DENIED|INVALID_ARGUMENT|UNAUTHENTICATED|unrecognized\ arguments|NOT_FOUND) ]]; then
          say "the request is wrong, and asking again will not help."
          exit 2
        fi
        back_off
        ;;
      FAILED | SUSPENDED)
        [[ $state != FAILED ]] || say "the cloud says: $(failure_reason)"
        ours=yes
        pushed=no
        slice_delete || exit 1
        back_off
        ;;
      *)
        [[ $state == UNKNOWN ]] || ours=yes
        pause "$POLL_SECONDS"
        ;;
    esac
  done
}

# -------------------------------------------------------------------------------------------- one job

# Run the command on the slice once. Sets CODE to its exit code, or to LOST.
run_job() {
  local job states before="" changed=$SECONDS failed="" first="" state
  job=$(new_job)
  say "job $job: $(quoted "$@")"
  if ! start_everywhere "$job" "$@"; then
    replace_slice
    return
  fi
  while true; do
    states=$(job_states "$job")
    if [[ $states != "$before" ]]; then
      before=$states
      changed=$SECONDS
    fi
    if all_started "$states" && all_exited "$states"; then # what was read may be a part of it
      CODE=${first:-$(worst "$states")}
      return
    fi
    check_parent
    state=$(slice_state)
    if [[ $state != ACTIVE && $state != UNKNOWN ]]; then
      say "$TPU_NAME was taken away: $state"
      CODE=$LOST
      return
    fi
    # Where even that cannot be asked for, it is this machine that is cut off, and the job goes on.
    [[ $state != UNKNOWN ]] || changed=$SECONDS
    if ((SECONDS - changed > STALE_SECONDS)); then
      say "no sign of life from $TPU_NAME for $STALE_SECONDS s."
      replace_slice
      return
    fi
    # A worker that failed leaves the others waiting for it.
    if [[ $states =~ state=exited\ code=[1-9] ]]; then
      failed=${failed:-$SECONDS}
      if ((SECONDS - failed > LINGER_SECONDS)); then
        say "a worker has failed; stopping the others."
        first=${first:-$(worst "$states")} # theirs are not the reason
        stop_job || true
        failed=$SECONDS
      fi
    fi
    pause "$POLL_SECONDS"
  done
}

# The slice is of no use any more; ensure_slice makes another one. Sets CODE.
replace_slice() {
  CODE=$LOST
  pushed=no
  slice_delete || exit 1
}

# gcloud counts it as success when it reaches only some of the workers: their states tell.
start_everywhere() {
  local try
  for ((try = 1; try <= SSH_TRIES; try++)); do
    start_job "$@" || return 1
    if all_started "$(job_states "$1")"; then return 0; fi
    say "not all workers of $TPU_NAME have started; trying again ($try of $SSH_TRIES)."
    pause "$SSH_PAUSE"
  done
  return 1
}

all_started() {
  local of
  of=$(sed -n 's/.* of=\([0-9]*\) .*/\1/p' <<<"$1" | head -n 1)
  [[ -n $of ]] && (($(grep -c '^worker=' <<<"$1") >= of))
}

all_exited() { ! grep -q ' state=running ' <<<"$1"; }

# Of the exit codes of the workers that ended: bad input, else the first failure, else an interruption, else 0.
# When one worker fails, the others are interrupted because it is gone.
worst() {
  local codes
  codes=$(sed -n 's/.* state=exited code=\([^ ]*\) .*/\1/p' <<<"$1" | sed 's/^$/1/') # no code is a failure
  if grep -qx 2 <<<"$codes"; then
    echo 2
  else
    grep -vxE '0|75' <<<"$codes" | head -n 1 | grep . || { grep -qx 75 <<<"$codes" && echo 75; } || echo 0
  fi
}

preemptions=0

# Until the command is done or has failed for good. Sets CODE.
run_until_done() {
  local failures=0
  waits=0
  while true; do
    ensure_slice
    run_job "$@"
    case $CODE in
      0 | 2) return ;;
      75 | "$LOST")
        ((++preemptions <= PREEMPTIONS)) || give_up "$TPU_NAME was taken away $preemptions times."
        say "interrupted ($preemptions so far); the command goes on where it was."
        ;;
      *)
        say "the command failed with $CODE; its log: $(log_command)"
        if ((++failures > FAILURES)); then return; fi
        if ((failures % 2 == 0)); then # it may be the machines
          say "replacing $TPU_NAME after $failures failures."
          replace_slice
        fi
        ;;
    esac
    back_off
  done
}

log_command() { quoted gcloud storage cat "$FOLDER/jobs/*/*.log"; }

# ------------------------------------------------------------------------------------------------ main

KEEP=no EACH=no
VALUES+=([--failures]=FAILURES [--preemptions]=PREEMPTIONS [--creations]=CREATIONS)
SWITCHES+=([--keep]=KEEP=yes [--each]=EACH=yes)
parse "$@"
((${#OTHERS[@]} == 0)) || die "babysit.sh: ${OTHERS[0]} is unknown; --help lists what there is."
require PROJECT ZONE TPU_NAME TPU_TYPE RUNTIME_VERSION BUCKET SERVICE_ACCOUNT
for name in FAILURES PREEMPTIONS CREATIONS; do
  [[ ${!name} =~ ^[0-9]+$ ]] || die "$name=${!name}: it must be a number."
done
((${#REST[@]})) || die "babysit.sh: give the command after --, for example: -- poison-scaling study CONFIG --workdir DIR"

if [[ $DRY_RUN == yes ]]; then
  slice_create
  push_code
  start_job JOB "${REST[@]}"
  slice_delete
  exit
fi

exec 3>&1 1>&2 # standard output is for --each alone

trap clean_up EXIT
trap 'interrupted INT' INT
trap 'interrupted TERM' TERM
trap 'interrupted HUP' HUP
lock
check_code # before anything costs money

if [[ $EACH == no ]]; then
  run_until_done "${REST[@]}"
  finished=yes
  exit "$CODE"
fi

worst_code=0
echo next >&3
while IFS= read -r line; do
  run_until_done "${REST[@]}" "$line"
  echo "done $CODE $line" >&3
  ((CODE == 0)) || worst_code=1
  echo next >&3
done
finished=yes
exit "$worst_code"

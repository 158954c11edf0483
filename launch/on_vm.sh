#!/usr/bin/env bash
# On a worker of a slice: the environment, and a job under a supervisor that outlives the connection.
#
#   on_vm.sh setup COMMIT [CACHE]      environment for this code; CACHE: prepared data, copied from a bucket
#   on_vm.sh start URL COMMAND...      start a job, whose state and log go to URL/WORKER.state and .log
#   on_vm.sh stop                      SIGTERM to the job, then SIGKILL when it does not end
#
# Every verb can be repeated. A state is one line: worker=NAME of=WORKERS state=running|exited code=N beat=N.

set -euo pipefail

HOME_FOLDER=$HOME/poison_scaling
ALIVE=${POISON_ALIVE:-/var/tmp/poison_scaling.alive} # for watchdog.sh
BEAT_SECONDS=${BEAT_SECONDS:-60} STOP_SECONDS=${STOP_SECONDS:-300}
STALL_SECONDS=${STALL_SECONDS:-7200} # without a step, an evaluation or prepared data: the command hangs
CODE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf 'on_vm: %s\n' "$*" >&2; }

alive() { touch -- "$ALIVE" 2>/dev/null || true; }

# ---------------------------------------------------------------------------------------- environment

setup() {
  local commit=$1 cache=${2-}
  alive
  # Installing and copying can take longer than the watchdog waits. It must not hold the connection open.
  while sleep 30; do alive; done </dev/null >/dev/null 2>&1 &
  local beats=$!
  # shellcheck disable=SC2064
  trap "kill $beats 2>/dev/null" EXIT
  local key environment
  key=$(cat -- "$CODE/setup.cfg" "$CODE/constraints.txt" | sha256sum | cut -c1-16)
  environment=$HOME_FOLDER/environments/$key
  mkdir -p "$environment"
  ( # one at a time; the file .ready is written last
    flock 9
    [[ -e $environment/.ready ]] || install "$environment/venv"
    touch "$environment/.ready"
  ) 9>"$environment/.lock"
  if [[ $cache == gs://* ]]; then
    say "copying the prepared data from $cache"
    mkdir -p "$HOME_FOLDER/cache"
    gcloud storage rsync --recursive --quiet "$cache" "$HOME_FOLDER/cache"
    cache=$HOME_FOLDER/cache
  fi
  printf '%s\n' "$cache" >"$CODE/.cache"
  ln -sfn -- "$environment/venv" "$CODE/.venv"
  ln -sfn -- "$CODE" "$HOME_FOLDER/current"
  say "ready: commit $commit, environment $key"
}

install() {
  local venv=$1 python
  rm -rf -- "$venv"
  say "installing into $venv"
  if python=$(command -v python3.11); then
    "$python" -m venv "$venv"
  else # TPU images have an older Python: uv brings one
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --seed --python 3.11 "$venv"
  fi
  "$venv/bin/pip" install --quiet --constraint "$CODE/constraints.txt" "${CODE}[tpu]"
}

# --------------------------------------------------------------------------------------------- a job

metadata() {
  curl -sf -H 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1" || true
}

# Sets WORKER, its name among all workers, and WORKERS, how many there are in all slices.
identify() {
  local environment number endpoints slices slice
  environment=$(metadata tpu-env)
  number=$(metadata agent-worker-number)
  endpoints=$(metadata worker-network-endpoints)
  slices=$(sed -n "s/^ *MEGASCALE_NUM_SLICES: *'\{0,1\}\([0-9]*\).*/\1/p" <<<"$environment")
  slice=$(sed -n "s/^ *MEGASCALE_SLICE_ID: *'\{0,1\}\([0-9]*\).*/\1/p" <<<"$environment")
  WORKER=slice${slice:-0}-worker${number:-0}
  WORKERS=$(($(tr ',' '\n' <<<"${endpoints:-one}" | grep -c .) * ${slices:-1}))
}

start() {
  local url=$1
  shift
  local job=$HOME_FOLDER/jobs/${url##*/}
  alive
  mkdir -p "$HOME_FOLDER/jobs"
  identify
  if mkdir "$job" 2>/dev/null; then
    stop # what an earlier caller left running
    say "starting job ${url##*/} on $WORKER"
    setsid nohup bash "${BASH_SOURCE[0]}" supervise "$url" "$job" "$@" \
      </dev/null >"$job/supervisor.log" 2>&1 &
    echo "$!" >"$job/supervisor.pid"
  fi
  # The caller counts the states to know that all workers have started.
  for _ in 1 2 3 4 5; do
    if [[ -e $job/state ]] || wait_for "$job/state"; then
      gcloud storage cp --quiet "$job/state" "$url/$WORKER.state" && return
    fi
  done
  say "job ${url##*/} did not start on $WORKER; see $job/supervisor.log"
  return 1
}

wait_for() {
  for _ in $(seq 50); do
    [[ ! -e $1 ]] || return 0
    sleep 0.1
  done
  return 1
}

# In a session of its own: run the command, tell how it goes, keep its exit code.
supervise() {
  local url=$1 job=$2
  shift 2
  identify
  local path=$CODE/.venv/bin:$PATH cache child code=0 beats
  cache=$(cat "$CODE/.cache" 2>/dev/null || true)
  [[ -z $cache ]] || export POISON_SCALING_CACHE=$cache
  cd -- "$CODE"
  # Changed by poison-scaling whenever it makes progress; other commands leave it alone.
  export POISON_SCALING_HEARTBEAT=$job/progress
  [[ $1 != poison-scaling ]] || touch -- "$job/progress"
  # This commit's code goes before what is installed.
  PATH=$path PYTHONPATH=$CODE PYTHONUNBUFFERED=1 "$@" </dev/null >"$job/log" 2>&1 &
  child=$!
  trap 'signalled=yes; kill -TERM "$child" 2>/dev/null || true' TERM
  state running "" 0
  (
    trap 'exit 0' TERM # between two uploads, so that none overtakes the last one
    for ((beat = 1; ; beat++)); do
      alive
      state running "" "$beat"
      upload || true
      if stalled "$job/progress"; then
        echo "on_vm: no progress for $STALL_SECONDS s; the command is killed, and resumes from its last checkpoint." >>"$job/log"
        touch -- "$job/killed"
        kill -KILL "$child"
      fi
      sleep "$BEAT_SECONDS" &
      wait "$!"
    done
  ) &
  beats=$!
  local signalled=yes again
  while [[ $signalled == yes ]]; do # a signal ends `wait` with a code that is not the child's
    signalled=no
    again=0
    wait "$child" || again=$?
    ((again == 127)) || code=$again # 127: there is nothing left to wait for
  done
  [[ ! -e $job/killed ]] || code=75
  kill "$beats" 2>/dev/null || true
  wait "$beats" 2>/dev/null || true
  state exited "$code" 0
  for _ in 1 2 3 4 5; do
    if upload; then break; fi
    sleep 5
  done
}

stalled() { [[ -e $1 && ! -e ${1%/*}/killed ]] && (($(date +%s) - $(stat -c %Y "$1") > STALL_SECONDS)); }

state() { # whole or not at all
  printf 'worker=%s of=%s state=%s code=%s beat=%s\n' "$WORKER" "$WORKERS" "$1" "$2" "$3" >"$job/.state"
  mv -f -- "$job/.state" "$job/state"
}

upload() {
  gcloud storage cp --quiet "$job/log" "$url/$WORKER.log" || true
  gcloud storage cp --quiet "$job/state" "$url/$WORKER.state"
}

# Whether a process is one of our supervisors: numbers are used again after a reboot.
runs() { tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -q ' supervise '; }

# Every job that still runs here.
stop() {
  local file pid
  for file in "$HOME_FOLDER"/jobs/*/supervisor.pid; do
    [[ -e $file ]] || continue
    pid=$(cat -- "$file")
    runs "$pid" || continue
    say "stopping $(basename -- "$(dirname -- "$file")")"
    kill -TERM "$pid"
    for ((i = 0; i < STOP_SECONDS * 10; i++)); do
      runs "$pid" || continue 2
      sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true # the supervisor leads its session
  done
}

verb=${1-}
case $verb in
  setup | start | stop | supervise)
    shift
    "$verb" "$@"
    ;;
  *)
    echo "error: on_vm.sh ${verb:-(nothing)}: give one of setup, start, stop." >&2
    exit 2
    ;;
esac

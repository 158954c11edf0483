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
STOP_SECONDS=${STOP_SECONDS:-300}
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

# In a session of its own, with the environment of this commit's code: what runs the command is supervise.py.
supervise() {
  local url=$1 job=$2 cache
  shift 2
  identify
  cache=$(cat "$CODE/.cache" 2>/dev/null || true)
  [[ -z $cache ]] || export POISON_SCALING_CACHE=$cache
  cd -- "$CODE"
  # This commit's code goes before what is installed.
  PATH=$CODE/.venv/bin:$PATH PYTHONPATH=$CODE PYTHONUNBUFFERED=1 exec python3 "$CODE/launch/supervise.py" \
    "$url" "$job" "$WORKER" "$WORKERS" "$@"
}

# Whether a process is one of our supervisors: numbers are used again after a reboot.
runs() { tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -Eq ' supervise |/supervise.py '; }

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

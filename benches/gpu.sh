#!/usr/bin/env bash
# All tests on an NVIDIA GPU, and the comparison with JAX and PyTorch there. The machine with the GPU needs neither cargo
# nor a network.
#
#   benches/gpu.sh build              where cargo is: programs into target/gpu/, which goes along to the other machine
#   benches/gpu.sh tests              there: the tests, then compute-sanitizer, if it is installed
#   benches/gpu.sh compare [NAME …]   there: workloads and kernels beside JAX and PyTorch (gpu.py)
#
# Reports go to $OUT, or to benches/results/. A run ends after FULGURITE_GPU_SECONDS (540), and says what it has left out.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

programs=target/gpu
manifest=$programs/manifest.txt
out=${OUT:-benches/results}
limit=${FULGURITE_GPU_SECONDS:-540}

fail() {
    echo "gpu.sh: $*" >&2
    exit 1
}

# ---- build

# The programs that cargo says it has made, of the arguments, as lines `NAME PATH`.
made() {
    cargo "$@" --message-format=json-render-diagnostics |
        sed -n 's/.*"target":{[^{}]*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p'
}

build() {
    command -v cargo >/dev/null || fail "there is no cargo here"
    command -v strip >/dev/null || fail "there is no strip here (binutils)"
    mkdir -p "$programs" || exit 1
    local tests step
    tests=$(made test --no-run --package fulgurite-tests --package fulgurite-runtime \
        --features fulgurite-tests/cuda,fulgurite-runtime/cuda --test gpu --test vectors --test cuda) || fail "the tests do not build"
    # Alone: the programs that are timed have no feature of the tests.
    step=$(made bench --no-run --package fulgurite-benches --features cuda --bench step) || fail "step does not build"
    {
        echo "commit $(git rev-parse HEAD 2>/dev/null || echo unknown)$(test -z "$(git status --porcelain 2>/dev/null)" || echo ' with uncommitted changes')"
        echo "built $(date -u +%Y-%m-%dT%H:%MZ) with $(rustc --version) on $(uname -m), glibc $(getconf GNU_LIBC_VERSION | cut -d' ' -f2)"
    } >"$manifest.new"
    local name path
    while read -r name path; do
        strip -o "$programs/$name" "$path" || fail "$path: strip failed"
        echo "program $name $(stat -c %s "$programs/$name") $(sha256sum "$programs/$name" | cut -d' ' -f1)" >>"$manifest.new"
    done <<<"$tests"$'\n'"$step"
    for name in cuda gpu vectors step; do
        grep -q "^program $name " "$manifest.new" || fail "cargo has made no $name"
    done
    mv "$manifest.new" "$manifest"
    cat "$manifest"
    du -sh "$programs"
}

# ---- on the machine with the GPU

# Are the programs there, whole, and can they reach a GPU? Sets `device`, `slug`.
prepare() {
    [ -f "$manifest" ] || fail "there is no $manifest: run benches/gpu.sh build where cargo is, and take $programs along"
    mkdir -p "$out" || exit 1
    local kind name size sum
    while read -r kind name size sum; do
        [ "$kind" = program ] || continue
        [ "$(sha256sum "$programs/$name" 2>/dev/null | cut -d' ' -f1)" = "$sum" ] ||
            fail "$programs/$name is not the program of $size bytes in the manifest: build again"
        [ -x "$programs/$name" ] || chmod +x "$programs/$name" || exit 1
    done <"$manifest"
    # The clear error, where there is no GPU.
    "$programs/step" dispatch --steps=1 --device=cuda || fail "no program runs on a GPU here"
    device=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
    device=${device:-unknown GPU}
    slug=$(tr '[:upper:]' '[:lower:]' <<<"$device" | tr -cs 'a-z0-9' '-' | sed 's/^-*//; s/-*$//')
}

# What the tests ran on, as lines of Markdown.
describe() {
    echo "- Date: $(date -u '+%Y-%m-%d %H:%M') UTC."
    echo "- GPU: $device; driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1), CUDA $(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p' | head -n 1)."
    echo "- CUDA's compiler: $(nvcc --version 2>/dev/null | grep release || echo none)."
    echo "- fulgurite: $(head -n 2 "$manifest" | paste -sd, | sed 's/,/, /')."
}

# Runs `$2…` with what is left of the time, at most `$seconds`; the output goes to the log, a line to the report. A test
# that ends as the device is lost goes on in a new process with the next case, a few times.
seconds=240
check() {
    local title=$1 start=$SECONDS left from='' status result='' text
    shift
    text=$(mktemp)
    for _ in 1 2 3 4 5; do
        left=$((limit - SECONDS < seconds ? limit - SECONDS : seconds))
        if [ "$left" -le 2 ]; then
            result="${result:+$result; }left out: no time"
            omitted=$((omitted + 1))
            break
        fi
        FULGURITE_GPU_FROM=${from:-0} timeout "$left" "$@" >"$text" 2>&1
        status=$?
        printf '\n==== %s (from case %s)\n' "$title" "${from:-0}" >>"$log"
        tail -c 1000000 "$text" >>"$log"
        if [ "$status" -eq 0 ] && grep -q 'skipped: ' "$text"; then
            result="SKIPPED: $(sed -n 's/.*skipped: //p' "$text" | head -n 1)"
            failed=$((failed + 1))
            break
        fi
        if [ "$status" -eq 0 ] && [ -z "$result" ]; then
            result="ok$(sed -n 's/^\(.* \)\{0,1\}\([0-9][0-9]* cases\), 0 faults$/, \2/p' "$text" | head -n 1)"
            passed=$((passed + 1))
            break
        fi
        case $status in
        0) break ;;
        124) result="${result:+$result; }FAILED: not done after $left s" ;;
        *) result="${result:+$result; }FAILED: $(grep -E -m 1 'case [0-9]+: |seed [0-9]+: |ERROR SUMMARY|panicked|error' "$text" | tr '|\n' '/ ' | cut -c 1-200)" ;;
        esac
        [ -z "$from" ] && failed=$((failed + 1))
        from=$(sed -n 's/.*FULGURITE_GPU_FROM=\([0-9]*\) goes on.*/\1/p' "$text" | tail -n 1)
        [ -n "$from" ] || break
    done
    rm -f "$text"
    printf '| %s | %s | %s |\n' "$title" "$result" "$((SECONDS - start))" | tee -a "$report"
}

# The names of the tests of a program, without what the arguments match.
names() {
    local program=$1
    shift
    "$programs/$program" --list --format terse "$@" 2>/dev/null | sed -n 's/: test$//p'
}

tests() {
    prepare
    report=$out/$(date -u +%Y-%m-%d)-$slug-tests.md
    log=$out/$(date -u +%Y-%m-%d)-$slug-tests.log
    passed=0 failed=0 omitted=0
    : >"$log"
    {
        echo "# Tests on $device"
        echo
        describe
        echo
        echo "| test | result | seconds |"
        echo "|---|---|---:|"
    } | tee "$report"
    # What chooses no device is what the GPU is compared with.
    export FULGURITE_DEVICE=cpu
    export FULGURITE_GPU_TESTS=device FULGURITE_GPU_PROGRAMS=${FULGURITE_GPU_PROGRAMS:-300}
    local name
    check "driver: the_driver_of_this_machine" "$programs/cuda" --exact the_driver_of_this_machine --nocapture
    # Each test in its own process: a device that one of them loses is there for the next. The others need no device.
    for name in $(names gpu --skip golden:: --skip ptxas:: --skip races:: --skip donated_inputs --skip the_largest --skip runs_on_a_device); do
        check "device: $name" "$programs/gpu" --exact "$name" --nocapture --test-threads=1
    done
    for name in jax jax-edge; do
        FULGURITE_DEVICE=cuda FULGURITE_VECTORS=$PWD/tests/vectors/$name \
            check "JAX's answers: $name" "$programs/vectors" --test-threads=1
    done
    check "fake driver" "$programs/cuda" --skip the_driver_of_this_machine
    if command -v compute-sanitizer >/dev/null; then
        # A part: the sanitizer makes programs many times slower.
        export FULGURITE_GPU_PROGRAMS=20
        for name in memcheck racecheck; do
            seconds=75
            check "$name: golden programs" compute-sanitizer --tool "$name" --error-exitcode 9 \
                "$programs/gpu" --exact workloads::golden_programs_have_the_bits_of_the_cpu_in_any_order --nocapture --test-threads=1
            check "$name: random programs" compute-sanitizer --tool "$name" --error-exitcode 9 \
                "$programs/gpu" --exact random_programs_have_the_bits_of_the_cpu --nocapture --test-threads=1
        done
        check "memcheck: every op" compute-sanitizer --tool memcheck --error-exitcode 9 \
            "$programs/gpu" --exact every_op_has_the_bits_of_the_cpu --nocapture --test-threads=1
    else
        echo "| compute-sanitizer | not installed | 0 |" | tee -a "$report"
    fi
    printf '\n%s passed, %s failed, %s left out. The output is in %s.\n' "$passed" "$failed" "$omitted" "$(basename "$log")" |
        tee -a "$report"
    [ "$failed" -eq 0 ] && [ "$omitted" -eq 0 ]
}

compare() {
    prepare
    command -v python3 >/dev/null || fail "there is no python3 here"
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 python3 benches/gpu.py --binary "$programs/step" --limit "$limit" "$@"
}

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
build) build ;;
tests) tests ;;
compare) compare "$@" ;;
*)
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 1
    ;;
esac

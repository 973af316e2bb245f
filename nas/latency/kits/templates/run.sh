#!/bin/sh
# Measures the networks of this kit, one after another; any POSIX shell runs it, and README.md says what it needs.
# It may be interrupted: what is measured stays in results/, and the next run goes on there.
#
# TOOL=path of the benchmark tool   RUN_WITH="taskset 80": measure on that core   PAUSE_S=seconds between networks
KIT='@KIT@'
RUNTIME='@RUNTIME@'
NAME='@TOOL@'
MODULES='@MODULES@'
INSTALL='@INSTALL@'
PRECISION='@PRECISION@'
ACCELERATOR='@ACCELERATOR@'
THREADS=@THREADS@
RUNS=@RUNS@
PASSES=@PASSES@
WARMUP=@WARMUP@
SECONDS_EACH=@SECONDS@
WHOLE_SECONDS=@WHOLE_SECONDS@
REFERENCE='@REFERENCE@'
REFERENCE_PX=@REFERENCE_PX@
PAUSE_S=${PAUSE_S:-@PAUSE_S@}

fail() {  # code, message
    echo "error: $2" >&2
    exit "$1"
}

# A connection that broke may have left a run behind: two at a time would disturb each other.
only_one() {
    other=$(cat results/running 2>/dev/null)
    if [ -n "$other" ] && [ "$other" != $$ ] && kill -0 "$other" 2>/dev/null; then
        fail 6 "run.sh is already running on this device (process $other): wait until it has ended, or end it; if that process is another program, delete results/running."
    fi
    echo $$ >results/running
}

find_tool() {
    if [ -n "$TOOL" ]; then
        command -v "$TOOL" >/dev/null 2>&1 || fail 3 "TOOL $TOOL: there is no such program on this device."
        return
    fi
    for TOOL in "./$NAME" "/data/local/tmp/$NAME" "/usr/src/tensorrt/bin/$NAME" "$NAME"; do
        command -v "$TOOL" >/dev/null 2>&1 && return
    done
    TOOL=bench.py
    pythons=${PYTHON:-python3 python}
    for module in $MODULES; do
        for PYTHON in $pythons; do
            "$PYTHON" -c "import numpy, $module" >/dev/null 2>&1 && return
        done
    done
    fail 3 "$NAME is not on this device: $INSTALL"
}

# Prints what the device is; lines "name: value".
describe() {
    model=$(getprop ro.product.model 2>/dev/null)
    if [ -n "$model" ]; then
        model="$(getprop ro.product.manufacturer) $model $(getprop ro.soc.model)"
    elif [ "$RUNTIME" = tensorrt ] && command -v nvidia-smi >/dev/null 2>&1; then
        model=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    elif [ -r /proc/device-tree/model ]; then
        model=$(tr -d '\000' </proc/device-tree/model)
    elif [ -r /proc/cpuinfo ]; then
        model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
    else
        model=$(sysctl -n machdep.cpu.brand_string 2>/dev/null)
    fi
    echo "processor: ${model:-$(uname -m)}"
    echo "cores: $(grep -c '^processor' /proc/cpuinfo 2>/dev/null)"
    echo "os: $(uname -s) $(uname -m)"
    echo "run_with: $RUN_WITH"
}

# Runs the tool on one network: its file, the side of its images.
measure() {
    case $RUNTIME in
    litert)
        gpu=false
        [ "$ACCELERATOR" = gpu ] && gpu=true
        $RUN_WITH "$TOOL" --graph="$1" --num_threads=$THREADS --use_gpu=$gpu --warmup_runs=$WARMUP \
            --num_runs=$RUNS --min_secs=$SECONDS_EACH
        ;;
    onnxruntime)
        $RUN_WITH "$TOOL" -I -s -m duration -t $WHOLE_SECONDS -x $THREADS -y 1 "$1"
        ;;
    ncnn)  # powersave 2: the big cores; no pause of its own
        $RUN_WITH "$TOOL" $RUNS $THREADS 2 -1 0 "param=$1" "shape=[$2,$2,3]"
        ;;
    tensorrt)  # building an engine takes long: that of the reference network is kept
        half=
        [ "$PRECISION" = float16 ] && half=--fp16
        engine=
        if [ "$1" = "$REFERENCE" ]; then
            engine=--saveEngine=results/reference.engine
            [ -f results/reference.engine ] && engine=--loadEngine=results/reference.engine
        fi
        case $engine in
        --load*) set -- $engine ;;
        *) set -- --onnx="$1" $engine $half ;;
        esac
        $RUN_WITH "$TOOL" "$@" --iterations=$RUNS --warmUp=500 --duration=$WHOLE_SECONDS
        ;;
    esac
}

# Measures one network and the reference network: a section of output for each, and "# end".
both() {  # number, file, side
    echo "# kit $KIT"
    echo "# network $1"
    echo "# tool $TOOL"
    echo "# time $(date +%s)"
    if [ "$TOOL" = bench.py ]; then
        $RUN_WITH "$PYTHON" bench.py --runtime $RUNTIME --network "$2" --px $3 --reference "$REFERENCE" \
            --reference-px $REFERENCE_PX --threads $THREADS --warmup $WARMUP --seconds $SECONDS_EACH || return
    else
        echo "# section reference"
        measure "$REFERENCE" $REFERENCE_PX || return
        echo "# section network"
        measure "$2" "$3" || return
    fi
    echo "# end"
}

# One line for each measurement: all networks, then all of them again.
plan() {
    pass=1
    while [ $pass -le $PASSES ]; do
        sed -n "s/^[0-9].*/& $pass/p" networks.txt
        pass=$((pass + 1))
    done
}

time_left() {  # seconds of this run, networks that it measured, networks left
    left=$(($1 * $3 / $2))
    if [ $left -lt 90 ]; then echo "$left s left"; else echo "$(((left + 30) / 60)) min left"; fi
}

cd "$(dirname "$0")" || exit 1
find_tool
if [ "$TOOL" != bench.py ]; then  # libraries of the tool are usually beside it
    LD_LIBRARY_PATH=$(dirname "$TOOL")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi
mkdir -p results && only_one && describe >results/device.txt ||
    fail 5 "results/ cannot be written: is the storage full?"
networks=$(grep -c '^[0-9]' networks.txt)
total=$((networks * PASSES))
echo "$networks networks, $total measurements, by $TOOL"
begun=$(date +%s)
seen=0
new=0
failed=
plan >results/plan || fail 5 "results/ cannot be written: is the storage full?"
while read -r number file px pass; do
    seen=$((seen + 1))
    [ "$pass" = 1 ] || number=$number-$pass
    result=results/$number.txt
    if [ -f "$result" ] && [ "$(tail -n 1 "$result")" = "# end" ]; then continue; fi
    [ $new -gt 0 ] && sleep "$PAUSE_S"
    if both "$number" "$file" "$px" >"results/$number.part" 2>&1 </dev/null; then
        [ "$(tail -n 1 "results/$number.part" 2>/dev/null)" = "# end" ] && mv "results/$number.part" "$result" ||
            fail 5 "$result cannot be written: is the storage full?"
        rm -f "results/$number.failed"
        new=$((new + 1))
        echo "[$seen/$total] $file; $(time_left $(($(date +%s) - begun)) $new $((total - seen)))"
    else
        [ -f "results/$number.part" ] || fail 5 "$result cannot be written: is the storage full?"
        mv "results/$number.part" "results/$number.failed"
        failed="$failed $number"
        last=$(grep -v '^ *$' "results/$number.failed" | tail -n 1)
        echo "[$seen/$total] $file; failed: $last"
        case $failed in
        *' '*' '*' '*) [ $new -gt 0 ] || fail 4 "$TOOL failed on all of the first networks; the last said: $last" ;;
        esac
    fi
done <results/plan
rm -f results/running results/plan
if [ -n "$failed" ]; then
    echo "$TOOL failed on networks$failed, which are left out; its output is in results/*.failed"
else
    echo "all $networks networks are measured: results/"
fi

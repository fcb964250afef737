#!/bin/sh
# Every alert, and how the agent is, a line each: subscribe.sh [HOST [PORT]]. What comes while this does not run is
# kept by the broker for a day. Only what is on right now: mosquitto_sub -h HOST -t 'vagus/v1/+/summary/+' -W 2
exec mosquitto_sub -h "${1:-localhost}" -p "${2:-1883}" -V 5 -i "alerts-$(id -un)" -c -x 86400 -q 1 \
    -t 'vagus/v1/+/event/+' -t 'vagus/v1/+/status' -F '%t %p'

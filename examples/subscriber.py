"""Prints every alert once, and says when nobody watches: python subscriber.py [HOST [PORT]]. Needs paho-mqtt only."""

import json
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.properties import PacketTypes, Properties


def connected(client, userdata, flags, reason, properties):
    client.subscribe([("vagus/v1/+/event/+", 1), ("vagus/v1/+/status", 1)])


def heard(client, seen, message):
    said = json.loads(message.payload)
    if message.topic.endswith("/status"):
        print(f"agent {said['agent']} is {said['state']} {'; '.join(said['reasons'])}", flush=True)
    elif said["id"] not in seen:  # at least once means now and then twice
        seen.add(said["id"])
        alert, late = said["data"], "LATE, about the past: " if said["data"]["late"] else ""
        print(f"{late}{alert['phase']} {alert['priority']} {alert['patient']}: {alert['text']}", flush=True)


host, port = [*sys.argv[1:], *["localhost", "1883"][len(sys.argv) - 1 :]]
lasting = Properties(PacketTypes.CONNECT)
lasting.SessionExpiryInterval = 24 * 3600  # what comes while we are away is kept for us for a day
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "example-subscriber", userdata=set(), protocol=mqtt.MQTTv5)
client.on_connect, client.on_message = connected, heard
client.connect(host, int(port), clean_start=False, properties=lasting)
client.loop_forever()

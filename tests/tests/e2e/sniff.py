"""Writes what crosses the loopback interface over TCP: one file for each direction of each connection, in the order of
sequence numbers as far as packets came in order. Ends, and says how many packets it saw and missed, when its standard
input is closed."""

import os
import select
import socket
import struct
import sys

folder = sys.argv[1]
packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
packets.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
packets.bind(("lo", 0))
print("ready", flush=True)
flows = {}
seen = missed = 0


def statistics():
    global seen, missed
    total, dropped = struct.unpack("II", packets.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
    seen, missed = seen + total, missed + dropped


def take(frame):
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return
    header = (frame[14] & 15) * 4
    total = struct.unpack("!H", frame[16:18])[0]
    tcp = 14 + header
    # Segments that the kernel has not cut up may be longer than the field can say.
    end = 14 + total if total else len(frame)
    start = tcp + (frame[tcp + 12] >> 4) * 4
    if start < end:
        flow = frame[26:34] + frame[tcp : tcp + 4]
        if flow not in flows:
            flows[flow] = open(os.path.join(folder, flow.hex()), "wb")
        flows[flow].write(frame[start:end])


open_input = True
while True:
    ready = select.select([packets, sys.stdin] if open_input else [packets], [], [], 0.2)[0]
    if not ready and not open_input:
        break
    if sys.stdin in ready and not os.read(0, 1):
        open_input = False
    if packets in ready:
        frame, address = packets.recvfrom(1 << 17)
        # Every packet comes by twice: 4 is the one on its way out.
        if address[2] != 4:
            take(frame)
for file in flows.values():
    file.close()
statistics()
print(seen, missed, flush=True)

main:
   0: *(u32 *)(r10 - 132) = 0
   1: r1 = map[scr.scratch]
   3: r2 = r10
   4: r2 += -132
   5: call bpf_map_lookup_elem#1
   6: r6 = r0
   7: if r6 == 0x0 goto +15
   8: r1 = r6
   9: r2 = 400
  10: call bpf_get_current_comm#16
  11: *(u64 *)(r10 - 112) = r0
  12: *(u64 *)(r10 - 128) = r0
  13: *(u64 *)(r6 + 392) = r0
  14: r3 = r6
  15: r1 = map[hash]
  17: r2 = r10
  18: r2 += -128
  19: r4 = 0
  20: call bpf_map_update_elem#2
  21: r0 = 0
  22: exit
  23: r0 = 0
  24: exit

main:
   0: r6 = r1
   1: r1 = r6
   2: call kfunc#1001
   3: w0 &= 255
   4: if r0 != 0x0 goto +8
   5: call bpf_ktime_get_ns#5
   6: r7 = r0
   7: r1 = r6
   8: call kfunc#1002
   9: r1 = r0
  10: *(u64 *)(r1 + 0) = r7
  11: r0 = 0
  12: exit
  13: call bpf_ktime_get_ns#5
  14: r7 = r0
  15: r1 = r6
  16: call kfunc#1002
  17: r1 = r0
  18: r0 = *(u64 *)(r1 + 0)
  19: r7 -= r0
  20: r0 = r7
  21: exit

main:
   0: r7 = *(u64 *)(r1 + 112)
   1: r3 = r7
   2: r3 += 100
   3: r1 = r10
   4: r1 += -84
   5: r2 = 48
   6: call bpf_probe_read_kernel#113
   7: r6 = *(u32 *)(r10 - 72)
   8: r3 = r7
   9: r3 += 140
  10: r1 = r10
  11: r1 += -96
  12: r2 = 8
  13: call bpf_probe_read_kernel#113
  14: r9 = *(u64 *)(r10 - 96)
  15: r8 = *(u16 *)(r10 - 84)
  16: r8 <<= 48
  17: r8 s>>= 48
  18: r7 += 400
  19: r3 = r7
  20: r1 = r10
  21: r1 += -104
  22: r2 = 8
  23: call bpf_probe_read_kernel#113
  24: r3 = r9
  25: r1 = r10
  26: r1 += -120
  27: r2 = 16
  28: call bpf_probe_read_kernel#113
  29: r7 = *(u64 *)(r10 - 112)
  30: r9 = *(u64 *)(r10 - 120)
  31: r6 += r7
  32: r3 = r9
  33: r3 += 8
  34: r1 = r10
  35: r1 += -128
  36: r2 = 8
  37: call bpf_probe_read_kernel#113
  38: r7 = *(u64 *)(r10 - 128)
  39: r3 = r9
  40: r3 += 64
  41: r1 = r10
  42: r1 += -24
  43: r2 = 20
  44: call bpf_probe_read_kernel#113
  45: r6 += r8
  46: r1 = *(u32 *)(r10 - 40)
  47: r6 += r1
  48: r1 = *(u64 *)(r10 - 104)
  49: r6 += r1
  50: r6 += r7
  51: r8 = *(u64 *)(r10 - 16)
  52: r6 += r8
  53: r0 = r6
  54: exit

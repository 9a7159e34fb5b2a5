main:
   0: r7 = r1
   1: r8 = 14
   2: r2 = r8
   3: r2 += 9
   4: r1 = r7
   5: r3 = r10
   6: r3 += -16
   7: r4 = 1
   8: call bpf_skb_load_bytes#26
   9: r9 = *(u8 *)(r10 - 16)
  10: if r9 == 0x11 goto +2
  11: r0 = 0
  12: exit
  13: r2 = r8
  14: r2 += 2
  15: r1 = r7
  16: r3 = r10
  17: r3 += -16
  18: r4 = 2
  19: call bpf_skb_load_bytes#26
  20: r6 = *(u16 *)(r10 - 16)
  21: r6 = be16 r6
  22: r2 = r8
  23: r2 += 16
  24: r1 = r7
  25: r3 = r10
  26: r3 += -16
  27: r4 = 4
  28: call bpf_skb_load_bytes#26
  29: r0 = *(u32 *)(r10 - 16)
  30: r0 = be32 r0
  31: r6 += r0
  32: r0 = r9
  33: r0 &= 60
  34: r2 = r8
  35: r2 += r0
  36: r1 = r7
  37: r3 = r10
  38: r3 += -16
  39: r4 = 2
  40: call bpf_skb_load_bytes#26
  41: r0 = *(u16 *)(r10 - 16)
  42: r0 = be16 r0
  43: r6 += r0
  44: r2 = r8
  45: r2 += 10
  46: r1 = r7
  47: r3 = r10
  48: r3 += -16
  49: r4 = 8
  50: call bpf_skb_load_bytes#26
  51: r0 = *(u64 *)(r10 - 16)
  52: r6 += r0
  53: r8 += 200
  54: r1 = r7
  55: r2 = r8
  56: r3 = r10
  57: r3 += -16
  58: r4 = 4
  59: call bpf_skb_load_bytes#26
  60: r0 = *(u32 *)(r10 - 16)
  61: r0 = be32 r0
  62: r6 += r0
  63: r0 = r6
  64: exit

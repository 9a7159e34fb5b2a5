main:
   0: r3 = *(u64 *)(r1 + 0)
   1: r1 = r10
   2: r1 += -48
   3: r2 = 48
   4: call bpf_probe_read_kernel#113
   5: r0 = *(u16 *)(r10 - 36)
   6: if w0 != 0x8 goto +13
   7: r1 = *(u16 *)(r10 - 18)
   8: r0 = *(u16 *)(r10 - 16)
   9: r0 <<= 16
  10: r1 |= r0
  11: if w1 != 0x101a8c0 goto +8
  12: r1 = *(u64 *)(r10 - 8)
  13: r0 = 0x100000000000000 ll
  15: if r1 == r0 goto +4
  16: r0 = *(u16 *)(r10 - 12)
  17: r0 = be16 r0
  18: if r0 != 0x35 goto +1
  19: exit
  20: r0 = 0
  21: exit

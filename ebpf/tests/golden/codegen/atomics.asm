main:
   0: r0 = *(u64 *)(r1 + 0)
   1: r2 = map[array][0]+0
   3: lock *(u64 *)(r2 + 0) += r0
   4: lock *(u32 *)(r2 + 8) |= r0
   5: r1 = r0
   6: r1 = atomic64_fetch_add((u64 *)(r2 + 16), r1)
   7: r1 = atomic64_fetch_xor((u64 *)(r2 + 16), r1)
   8: lock *(u64 *)(r2 + 24) &= r1
   9: r1 = r0
  10: r1 = atomic64_xchg((u64 *)(r2 + 32), r1)
  11: r0 = atomic32_xchg((u32 *)(r2 + 40), r0)
  12: exit

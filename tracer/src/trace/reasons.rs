//! This kernel's drop reasons, by its types: its own, and those that subsystems register (6.4+), whose enums are in their
//! modules and are therefore known if the module is loaded.

use crate::kernel::btf::KernelBtf;

/// Numbers and enumerators.
pub type Enumerators = Vec<(u32, String)>;

/// All reasons, and the subsystems. Both are empty where the kernel has none.
pub fn of(btf: &KernelBtf) -> (Enumerators, Enumerators) {
    const OWN: &str = "skb_drop_reason";
    let values = |name: &str| -> Enumerators {
        let values = btf.enum_values(name).unwrap_or_default();
        values
            .into_iter()
            .map(|(name, number)| (number as u32, name))
            .collect()
    };
    let subsystems = values("skb_drop_reason_subsys");
    let registered = |number: u32| number >> 16 != 0 && subsystems.iter().any(|(s, _)| *s == number >> 16);
    let mut reasons = values(OWN);
    for name in btf.enums_ending("_drop_reason") {
        if name != OWN {
            reasons.extend(values(name).into_iter().filter(|(number, _)| registered(*number)));
        }
    }
    (reasons, subsystems)
}

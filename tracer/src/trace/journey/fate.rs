//! What became of a packet: each copy's state as its events come, and the verdict at its end.

use crate::trace::event::{Event, PointId, Sign};
use crate::trace::roles::Role;

/// A process, as an event saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id (thread group).
    pub pid: u32,
    /// Command name. Escape before printing.
    pub comm: Vec<u8>,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its name. Escape before printing.
    pub name: Vec<u8>,
    /// Inode of its network namespace.
    pub netns: u32,
}

/// What a copy had reached before it was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Had {
    /// A process had read it: some protocols free what was read as if dropped, and a checksum may fail on reading.
    BeenRead(Process),
    /// A device's driver had taken it: some drivers free what was sent as if dropped.
    BeenTaken(Device),
}

/// How the kernel was done with a packet that nobody read or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumption {
    /// A protocol's handler in the kernel took it in.
    Handled,
    /// Its data became part of another skb.
    Merged,
    /// Nothing more is known: freed as done with, after the attach point given.
    Plain,
}

/// What became of a packet, or of one of its copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A process read it.
    Delivered {
        /// The process that read it.
        process: Process,
    },
    /// A device's driver took it, and it went nowhere else after.
    Sent {
        /// The device.
        device: Device,
    },
    /// Freed as dropped.
    Dropped {
        /// `enum skb_drop_reason`, on kernels that have it (5.17+).
        reason: Option<u32>,
        /// Address of the code that dropped it; 0 if not known.
        location: u64,
        /// The last attach point that it passed before being freed.
        after: PointId,
        /// What it had reached before, if that makes the drop doubtful.
        had: Option<Had>,
    },
    /// The kernel was done with it, without anyone reading or sending it.
    Consumed {
        /// The function that took it in, or after which it was freed.
        point: PointId,
        /// Which of the two.
        how: Consumption,
    },
    /// Still waiting when the run ended.
    Queued {
        /// In what, in words.
        place: &'static str,
        /// The function that put it there.
        point: PointId,
    },
    /// Still somewhere when the run ended, or its memory was seen in another packet's hands.
    LostSight {
        /// The last attach point that it passed.
        point: PointId,
    },
}

impl Fate {
    /// The fates' names, for counting and for machines.
    pub const KINDS: [&str; 6] = ["delivered", "sent", "dropped", "consumed", "queued", "lost_sight"];

    /// Index of its name in [`Fate::KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Fate::Delivered { .. } => 0,
            Fate::Sent { .. } => 1,
            Fate::Dropped { .. } => 2,
            Fate::Consumed { .. } => 3,
            Fate::Queued { .. } => 4,
            Fate::LostSight { .. } => 5,
        }
    }

    /// How far it got: a smaller rank tells more about what became of the packet.
    fn rank(&self) -> u8 {
        match self {
            Fate::Delivered { .. } => 0,
            Fate::Sent { .. } => 1,
            Fate::Consumed {
                how: Consumption::Handled | Consumption::Merged,
                ..
            } => 2,
            Fate::Dropped { .. } => 3,
            Fate::Queued { .. } => 4,
            // Often the original of what a protocol or a device worked on as a copy.
            Fate::Consumed {
                how: Consumption::Plain,
                ..
            } => 5,
            Fate::LostSight { .. } => 6,
        }
    }
}

/// Between a copy and the driver it is handed to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wire {
    /// No driver is known to have it.
    Off,
    /// Handed to a driver; `taken` once that has said so.
    On { device: Device, taken: bool },
    /// It went on from the driver to somewhere else, as through a veth pair.
    Left,
}

/// Why a copy was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Itself,
    Tap,
    Raw,
}

/// A copy's state.
#[derive(Clone, Debug)]
pub(super) struct CopyState {
    purpose: Purpose,
    last: PointId,
    last_role: Role,
    handled: Option<(PointId, Consumption)>,
    queued: Option<(&'static str, PointId)>,
    /// The device it was last seen on.
    device: Option<Device>,
    wire: Wire,
    read: Option<Process>,
    dropped: Option<(Option<u32>, u64, PointId)>,
    consumed: bool,
    released: bool,
    freed: bool,
    lost: bool,
}

impl CopyState {
    /// A copy whose first event is at `point`, made from `parent` as that was then.
    pub(super) fn new(point: PointId, parent: Option<&CopyState>) -> Self {
        let purpose = match parent {
            Some(parent) if parent.last_role == Role::Tap => Purpose::Tap,
            Some(parent) if parent.last_role == Role::Raw => Purpose::Raw,
            Some(parent) => parent.purpose,
            None => Purpose::Itself,
        };
        CopyState {
            purpose,
            last: parent.map_or(point, |parent| parent.last),
            last_role: Role::Aside,
            handled: None,
            queued: None,
            device: parent.and_then(|parent| parent.device.clone()),
            wire: Wire::Off,
            read: None,
            dropped: None,
            consumed: false,
            released: false,
            freed: false,
            lost: false,
        }
    }

    /// Neither dropped, consumed, released, freed nor lost.
    pub(super) fn alive(&self) -> bool {
        !self.gone() && !self.consumed && !self.released && self.dropped.is_none()
    }

    /// Freed or lost: nothing more is expected.
    pub(super) fn gone(&self) -> bool {
        self.freed || self.lost
    }

    /// A process has read from it.
    pub(super) fn was_read(&self) -> bool {
        self.read.is_some()
    }

    /// Its memory is known to be another's now.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// Takes an event about it.
    pub(super) fn see(&mut self, event: &Event, role: Role) {
        self.moved(event);
        match role {
            Role::Aside => {}
            Role::Release => self.released = true,
            Role::Queue(place) => self.queued = Some((place, event.point)),
            Role::Merge => self.handled = Some((event.point, Consumption::Merged)),
            Role::Sink => {
                self.handled = Some((event.point, Consumption::Handled));
                self.queued = None;
            }
            Role::Transmit => {
                self.wire = match &self.device {
                    Some(device) => Wire::On {
                        device: device.clone(),
                        taken: false,
                    },
                    None => Wire::Off,
                };
                (self.queued, self.handled) = (None, None);
            }
            Role::Receive(place) => {
                self.wire = Wire::Left;
                self.queued = place.map(|place| (place, event.point));
                self.handled = None;
            }
            Role::Tap | Role::Raw | Role::Other => {
                if event.sign == Sign::Passed {
                    self.queued = None;
                }
            }
        }
        if !matches!(role, Role::Aside | Role::Release) {
            (self.last, self.last_role) = (event.point, role);
        }
        match event.sign {
            Sign::Passed | Sign::Cloned { .. } | Sign::Ran { .. } => {}
            Sign::Copied => self.read_by(event),
            Sign::Transmitted { code } => self.transmitted(code),
            Sign::Dropped { reason, location } => {
                let (known, place, after) = self.dropped.unwrap_or((None, 0, self.last));
                self.dropped = Some((
                    reason.or(known),
                    if location == 0 { place } else { location },
                    after,
                ));
            }
            Sign::Consumed { read } => {
                self.consumed = true;
                if read {
                    self.read_by(event);
                }
            }
            Sign::Freed => self.freed = true,
        }
    }

    fn read_by(&mut self, event: &Event) {
        self.read = Some(Process {
            pid: event.pid,
            comm: event.comm.clone(),
        });
    }

    /// A packet that turns up on another device has left the driver that it was handed to.
    fn moved(&mut self, event: &Event) {
        let Some(packet) = event.packet.as_ref().filter(|packet| packet.ifindex != 0) else {
            return;
        };
        let now = Device {
            ifindex: packet.ifindex,
            name: packet.ifname.clone(),
            netns: packet.netns,
        };
        if let Wire::On { device, .. } = &self.wire
            && *device != now
        {
            self.wire = Wire::Left;
        }
        self.device = Some(now);
    }

    /// The driver's answer. It comes after the driver's own work, when the packet may long be elsewhere, and, where
    /// devices are stacked, once for each: the lowest first.
    fn transmitted(&mut self, code: i32) {
        match (&mut self.wire, &self.device) {
            _ if code != 0 => self.wire = Wire::Off,
            (Wire::On { taken, .. }, _) => *taken = true,
            (Wire::Off, Some(device)) => {
                self.wire = Wire::On {
                    device: device.clone(),
                    taken: true,
                }
            }
            (Wire::Off, None) | (Wire::Left, _) => {}
        }
    }

    /// What became of it, as far as is known now.
    pub(super) fn fate(&self) -> Fate {
        let taken = match &self.wire {
            Wire::On { device, taken: true } => Some(device.clone()),
            _ => None,
        };
        if let Some((reason, location, after)) = self.dropped {
            let had = match (&self.read, taken) {
                (Some(process), _) => Some(Had::BeenRead(process.clone())),
                (None, Some(device)) => Some(Had::BeenTaken(device)),
                (None, None) => None,
            };
            return Fate::Dropped {
                reason,
                location,
                after,
                had,
            };
        }
        if let Some(process) = &self.read {
            return Fate::Delivered {
                process: process.clone(),
            };
        }
        if let Some(device) = taken {
            return Fate::Sent { device };
        }
        if !self.consumed && !self.released && !self.freed {
            return match self.queued {
                Some((place, point)) if !self.lost => Fate::Queued { place, point },
                _ => Fate::LostSight { point: self.last },
            };
        }
        match (&self.wire, self.handled) {
            // Its driver freed it before answering: done with.
            (Wire::On { device, .. }, _) => Fate::Sent {
                device: device.clone(),
            },
            (_, Some((point, how))) => Fate::Consumed { point, how },
            (_, None) => Fate::Consumed {
                point: self.last,
                how: Consumption::Plain,
            },
        }
    }
}

/// `SKB_DROP_REASON_NOT_SPECIFIED` (in Linux 5.17 and 5.18 it is a smaller number).
const NOT_SPECIFIED: u32 = 2;

/// Which of the copies tells what became of the packet: the one that got furthest. Copies for packet sockets stand
/// behind all others, and so do those for raw sockets that didn't read them.
pub(super) fn teller(states: &[CopyState]) -> usize {
    let rank = |state: &CopyState| {
        let fate = state.fate();
        let aside = match state.purpose {
            Purpose::Itself => false,
            Purpose::Tap => true,
            Purpose::Raw => !matches!(fate, Fate::Delivered { .. }),
        };
        // A fragment's skb is freed as part of the whole, without a reason; the whole has one.
        let vague = matches!(fate, Fate::Dropped { reason, .. } if reason.is_none_or(|reason| reason <= NOT_SPECIFIED));
        (aside, fate.rank(), vague)
    };
    (0..states.len())
        .min_by_key(|&copy| rank(&states[copy]))
        .unwrap_or(0)
}

//! IEEE 802.1Q tags, one or two (802.1ad, QinQ).

use crate::error::ParseError;

/// Protocol identifier of a customer tag.
pub const TPID_CUSTOMER: u16 = 0x8100;
/// Protocol identifier of a service tag (802.1ad).
pub const TPID_SERVICE: u16 = 0x88a8;
/// Bytes a tag adds to a frame.
pub const TAG_LENGTH: usize = 4;
/// The most tags that a frame may bear.
pub const TAGS_MAX: usize = 2;

/// One tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// Tag protocol identifier: [`TPID_CUSTOMER`] or [`TPID_SERVICE`].
    pub protocol: u16,
    /// Tag control information: priority, drop eligible, VLAN identifier.
    pub control: u16,
}

/// The tags of a frame, outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VlanTags {
    tags: [VlanTag; TAGS_MAX],
    count: u8,
}

/// What follows an Ethernet header once its tags are read.
#[derive(Clone, Copy, Debug)]
pub struct Untagged<'a> {
    /// The tags.
    pub tags: VlanTags,
    /// The EtherType behind them.
    pub ether_type: u16,
    /// The bytes behind them.
    pub payload: &'a [u8],
}

impl VlanTag {
    /// VLAN identifier, 12 bits.
    #[must_use]
    pub const fn identifier(&self) -> u16 {
        self.control & 0x0fff
    }

    /// Priority code point, 3 bits.
    #[must_use]
    pub const fn priority(&self) -> u8 {
        (self.control >> 13) as u8
    }

    /// Drop eligible indicator.
    #[must_use]
    pub const fn drop_eligible(&self) -> bool {
        self.control & 0x1000 != 0
    }
}

impl VlanTags {
    /// No tag.
    pub const NONE: VlanTags =
        VlanTags { tags: [VlanTag { protocol: 0, control: 0 }; TAGS_MAX], count: 0 };

    /// One tag.
    #[must_use]
    pub const fn single(tag: VlanTag) -> VlanTags {
        VlanTags { tags: [tag, VlanTag { protocol: 0, control: 0 }], count: 1 }
    }

    /// Two tags.
    #[must_use]
    pub const fn double(outer: VlanTag, inner: VlanTag) -> VlanTags {
        VlanTags { tags: [outer, inner], count: 2 }
    }

    /// Reads the tags behind an Ethernet header whose type field is `ether_type`.
    ///
    /// # Errors
    /// [`ParseError::VlanTruncated`], [`ParseError::VlanTooManyTags`].
    #[inline]
    pub fn parse(ether_type: u16, payload: &[u8]) -> Result<Untagged<'_>, ParseError> {
        let mut untagged = Untagged { tags: VlanTags::NONE, ether_type, payload };
        for slot in 0..TAGS_MAX {
            if !is_tag(untagged.ether_type) {
                return Ok(untagged);
            }
            let Some(([c0, c1, t0, t1], rest)) = untagged.payload.split_first_chunk() else {
                return Err(ParseError::VlanTruncated);
            };
            untagged.tags.tags[slot] =
                VlanTag { protocol: untagged.ether_type, control: u16::from_be_bytes([*c0, *c1]) };
            untagged.tags.count = slot as u8 + 1;
            untagged.ether_type = u16::from_be_bytes([*t0, *t1]);
            untagged.payload = rest;
        }
        if is_tag(untagged.ether_type) {
            return Err(ParseError::VlanTooManyTags);
        }
        Ok(untagged)
    }

    /// The tags, outermost first.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[VlanTag] {
        self.tags.get(..usize::from(self.count)).unwrap_or(&self.tags)
    }

    /// How many tags there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the frame is untagged.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Whether an EtherType is a tag's protocol identifier.
#[inline]
#[must_use]
pub const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, TPID_CUSTOMER | TPID_SERVICE)
}

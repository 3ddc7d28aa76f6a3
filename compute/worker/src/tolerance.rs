//! How far machines of different determinism classes may be apart.

/// Is `theirs` what a machine of another class may have computed where this one computed `ours`?
pub(crate) fn is_close(ours: &[f32], theirs: &[f32]) -> bool {
    ours == theirs
}

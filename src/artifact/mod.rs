//! What comes in: spooled, checked, unpacked; and what `pack` and `lint` make and try.

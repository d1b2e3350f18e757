//! A synthetic twin of Ref-ZOM, written in the same on-disk layout.

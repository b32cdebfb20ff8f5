//! Who calls us: two front ends over one life cycle.

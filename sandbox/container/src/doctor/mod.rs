//! What this kernel can enforce.

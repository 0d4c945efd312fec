//! `lifeboat finish`: what the restored box does after its next normal start.

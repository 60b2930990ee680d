"""The plain SimpleITK way: slow, and what the fast way is compared with."""

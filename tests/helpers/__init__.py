"""What the tests share: process trees, owners, bystanders, and the look for what was left behind."""

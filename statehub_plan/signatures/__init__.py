"""SSH signatures, for whatever is signed here: `sshsig` and `signers` read strictly and are pure, `keygen` runs
ssh-keygen. What a signature is for is its `Purpose`; one that was made for another counts for nothing."""

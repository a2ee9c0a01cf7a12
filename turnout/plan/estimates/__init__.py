"""What a plan costs on AWS, part by part."""
